/* Paced server: streams completions on a schedule, and knows when it sent each chunk.
 *
 *   paced_server PORT
 *
 * POST /v1/completions answers with max_tokens chunks, as vLLM sends them. The first is due
 * ttft after the request, the others itl apart. "step" has all streams send at common ticks, as
 * an engine does; "spread" has them send one by one. GET /pace?ttft_ns=N&itl_ns=N&step=0|1 sets
 * the pace, GET /sent gives one JSON line for each answer and forgets them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_STREAMS = 16384, REQUEST_BYTES = 65536, ID_BYTES = 128 };
#define NS 1000000000LL
#define PHASE 0.6180339887498949 /* spreads any number of streams evenly */

typedef struct {
    char id[ID_BYTES];
    int64_t received_ns;
    int tokens, sent;
    int64_t *due_ns, *sent_ns; /* each chunk: when it was to be sent, and just before it was */
} Answer;

typedef struct {
    int fd, wants_usage;
    Answer *answer; /* in progress */
    size_t have;    /* bytes of the request so far */
    char request[REQUEST_BYTES + 1];
} Stream;

static Stream *streams[MOST_STREAMS + 64];
static Stream *heap[MOST_STREAMS + 64];
static int heaped;
static Answer **answers;
static int answered, answers_room;
static int64_t ttft_ns = NS / 10, itl_ns = NS / 100;
static int in_step;
static int64_t serial;
static int poller;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void *room(void *memory) {
    if (!memory) {
        perror("paced_server: memory");
        exit(1);
    }
    return memory;
}

static int64_t due(const Stream *s) { return s->answer->due_ns[s->answer->sent]; }

static void sift(int at) {
    for (;;) {
        int least = at;
        for (int child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < heaped && due(heap[child]) < due(heap[least])) least = child;
        if (least == at) return;
        Stream *moved = heap[at];
        heap[at] = heap[least];
        heap[least] = moved;
        at = least;
    }
}

static void push(Stream *s) {
    int at = heaped++;
    heap[at] = s;
    while (at && due(heap[at]) < due(heap[(at - 1) / 2])) {
        Stream *moved = heap[at];
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = moved;
        at = (at - 1) / 2;
    }
}

static void drop(Stream *s) {
    for (int at = 0; at < heaped; at++)
        if (heap[at] == s) {
            heap[at] = heap[--heaped];
            for (int from = heaped / 2; from >= 0; from--) sift(from);
            break;
        }
    streams[s->fd] = NULL;
    close(s->fd);
    free(s);
}

/* All of it, at once: an answer's chunk always fits the socket's buffer. */
static int put(Stream *s, const char *data, size_t size) {
    if (send(s->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size) return 1;
    drop(s);
    return 0;
}

static int framed(char *out, const char *event) {
    return sprintf(out, "%zx\r\n%s\r\n", strlen(event), event);
}

static void send_chunk(Stream *s) {
    Answer *a = s->answer;
    static char event[1024], out[2048];
    int last = a->sent + 1 == a->tokens;
    snprintf(event, sizeof event,
             "data: {\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\","
             "\"created\":1764370000,\"model\":\"fake\",\"choices\":[{\"index\":0,\"text\":\" a\","
             "\"logprobs\":null,\"finish_reason\":%s,\"stop_reason\":null,\"token_ids\":null,"
             "\"prompt_token_ids\":null}]}\n\n",
             last ? "\"length\"" : "null");
    int size = framed(out, event);
    a->sent_ns[a->sent] = now();
    if (!put(s, out, size)) return;
    a->sent++;
    if (!last) {
        push(s);
        return;
    }
    size = 0;
    if (s->wants_usage) {
        snprintf(event, sizeof event,
                 "data: {\"id\":\"cmpl-0\",\"object\":\"text_completion\",\"created\":1764370000,"
                 "\"model\":\"fake\",\"choices\":[],\"usage\":{\"prompt_tokens\":128,"
                 "\"total_tokens\":%d,\"completion_tokens\":%d}}\n\n",
                 128 + a->tokens, a->tokens);
        size = framed(out, event);
    }
    size += framed(out + size, "data: [DONE]\n\n");
    size += sprintf(out + size, "0\r\n\r\n");
    s->answer = NULL;
    put(s, out, size);
}

static int64_t number(const char *text, const char *name, int64_t otherwise) {
    const char *found = strstr(text, name);
    if (!found) return otherwise;
    found += strlen(name);
    while (*found == ' ' || *found == ':' || *found == '=') found++;
    return atoll(found);
}

static void plan(Answer *a) {
    int64_t first = a->received_ns + ttft_ns;
    if (in_step) {
        first += itl_ns - first % itl_ns;
    } else {
        double turn = PHASE * (double)serial;
        first += (int64_t)((turn - (int64_t)turn) * (double)itl_ns);
    }
    for (int k = 0; k < a->tokens; k++) a->due_ns[k] = first + k * itl_ns;
}

static void begin(Stream *s, int64_t received_ns) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    Answer *a = room(calloc(1, sizeof *a));
    const char *id = strcasestr(s->request, "x-request-id:");
    if (id) sscanf(id + 13, " %127[^\r\n]", a->id);
    a->received_ns = received_ns;
    a->tokens = (int)number(s->request, "\"max_tokens\"", 16);
    if (a->tokens < 1) a->tokens = 1;
    a->due_ns = room(calloc(a->tokens, sizeof *a->due_ns));
    a->sent_ns = room(calloc(a->tokens, sizeof *a->sent_ns));
    plan(a);
    serial++;
    if (answered == answers_room) {
        answers_room = 2 * answers_room + 64;
        answers = room(realloc(answers, answers_room * sizeof *answers));
    }
    answers[answered++] = a;
    s->answer = a;
    s->wants_usage = strstr(s->request, "\"include_usage\"") != NULL;
    if (put(s, head, sizeof head - 1)) push(s);
}

static void tell(Stream *s, const char *body, size_t size) {
    char head[128];
    int length = sprintf(head, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                               "content-length: %zu\r\n\r\n", size);
    send(s->fd, head, length, MSG_NOSIGNAL);
    while (size) { /* the socket is not blocking, and nothing is paced meanwhile */
        ssize_t sent = send(s->fd, body, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) body += sent, size -= sent;
    }
}

static void tell_sent(Stream *s) {
    char *text;
    size_t size;
    FILE *out = room(open_memstream(&text, &size));
    for (int n = 0; n < answered; n++) {
        Answer *a = answers[n];
        fprintf(out, "{\"request_id\":\"%s\",\"received_ns\":%lld,\"due_ns\":[", a->id,
                (long long)a->received_ns);
        for (int k = 0; k < a->sent; k++)
            fprintf(out, "%s%lld", k ? "," : "", (long long)a->due_ns[k]);
        fprintf(out, "],\"sent_ns\":[");
        for (int k = 0; k < a->sent; k++)
            fprintf(out, "%s%lld", k ? "," : "", (long long)a->sent_ns[k]);
        fprintf(out, "]}\n");
        free(a->due_ns);
        free(a->sent_ns);
        free(a);
    }
    answered = 0;
    fclose(out);
    tell(s, text, size);
    free(text);
}

static void answer(Stream *s, int64_t received_ns) {
    if (!strncmp(s->request, "POST /v1/completions", 20)) {
        begin(s, received_ns);
    } else if (!strncmp(s->request, "GET /pace", 9)) {
        ttft_ns = number(s->request, "ttft_ns", ttft_ns);
        itl_ns = number(s->request, "itl_ns", itl_ns);
        in_step = (int)number(s->request, "step", in_step);
        serial = 0;
        tell(s, "{}", 2);
    } else if (!strncmp(s->request, "GET /sent", 9)) {
        tell_sent(s);
    } else if (!strncmp(s->request, "GET /v1/models", 14)) {
        static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"root\":\"fake\"}]}";
        tell(s, models, sizeof models - 1);
    } else if (!strncmp(s->request, "GET /health", 11)) {
        tell(s, "{}", 2);
    } else {
        static const char none[] = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        send(s->fd, none, sizeof none - 1, MSG_NOSIGNAL);
    }
}

/* One read; a request is never pipelined behind another. */
static void receive(Stream *s) {
    ssize_t count = recv(s->fd, s->request + s->have, REQUEST_BYTES - s->have, 0);
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
        drop(s); /* closed, or longer than any request of a benchmark */
        return;
    }
    int64_t received_ns = now();
    s->have += (size_t)count;
    s->request[s->have] = 0;
    const char *end = strstr(s->request, "\r\n\r\n");
    if (!end) return;
    const char *length = strcasestr(s->request, "content-length:");
    size_t body = length && length < end ? strtoul(length + 15, NULL, 10) : 0;
    if (s->have < (size_t)(end + 4 - s->request) + body) return;
    s->have = 0;
    answer(s, received_ns);
}

static void welcome(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    if (fd >= MOST_STREAMS + 64) {
        close(fd);
        return;
    }
    int yes = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Stream *s = room(calloc(1, sizeof *s));
    s->fd = fd;
    streams[fd] = s;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(int port) {
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("paced_server: listen");
        exit(1);
    }
    return listener;
}

static void wait_and_receive(int listener) {
    struct epoll_event events[256];
    struct timespec wait = {60, 0};
    if (heaped) {
        int64_t left = due(heap[0]) - now();
        if (left < 0) left = 0;
        wait = (struct timespec){left / NS, left % NS};
    }
    int count = epoll_pwait2(poller, events, 256, &wait, NULL);
    for (int k = 0; k < count; k++) {
        int fd = events[k].data.fd;
        if (fd == listener) welcome(listener);
        else if (streams[fd]) receive(streams[fd]);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: paced_server PORT\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    poller = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);
    for (;;) {
        wait_and_receive(listener);
        while (heaped && due(heap[0]) <= now()) {
            Stream *s = heap[0];
            heap[0] = heap[--heaped];
            sift(0);
            send_chunk(s);
        }
    }
}
