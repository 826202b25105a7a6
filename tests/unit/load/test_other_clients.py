"""Other benchmark clients: the same load, and their figures under our names."""

import json
import subprocess
import sys

import pytest
import tokenizers

from perfgate.load.client import Recording
from perfgate.load.http import RequestRecord, encode
from perfgate.load.measurement import Target
from perfgate.load.other_clients import (
    CLIENTS,
    ClientFailed,
    as_text,
    by_sglang_definitions,
    by_vllm_definitions,
    requests_of,
    run_other,
    run_suite,
    turn_of,
)
from perfgate.load.reads import Reads
from perfgate.load.workload import Request, Synthetic, Workload, build_requests
from tests.support.fake_launch import FakeEngine
from tests.support.load_targets import target_of
from tests.support.other_client import FIGURES, other_client

MS = 1_000_000
WORKLOAD = Workload(
    name="c",
    num_prompts=4,
    max_concurrency=2,
    prompts=Synthetic(output_len_tokens=3),
)
REQUESTS = [Request(i, (1, 2), 3, 0, text=f"w{i} w2") for i in range(4)]
TARGET = Target(
    url="http://h:1",
    served_model="m",
    vocab_size=9,
    engine="vllm",
    tokenizer="/t",
)


def one_request(texts=((20, ""), (30, "a"), (40, "b"))):
    """Sent at 0; texts "", "a", "b" at 20, 30, 40 ms; [DONE] at 55 ms, complete at 60 ms."""
    reads = [
        (at * MS, b'data: {"choices":[{"text":"%s"}]}\n\n' % text.encode())
        for at, text in texts
    ]
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}\n\n'
    reads += [(50 * MS, usage), (55 * MS, b"data: [DONE]\n\n")]
    record = RequestRecord(
        index=0,
        input_tokens=1,
        asked_tokens=3,
        due_ns=0,
        sent_ns=0,
        end_ns=60 * MS,
        status=200,
        reads=Reads.of_pairs(reads),
    )
    return Recording(
        start_ns=0,
        end_ns=60 * MS,
        requests=(record,),
        client_busy=0.0,
        client_gaps=(),
    )


def test_definitions_differ_as_said():
    """The client of vLLM counts every chunk and ends with the last one.

    SGLang's counts chunks with text and ends with the stream.
    """
    vllm, sglang = (
        by_vllm_definitions(one_request()),
        by_sglang_definitions(one_request()),
    )

    # TTFT first chunk or first text; E2EL last chunk or end of stream; TPOT (40
    # - 20) / 2 or (60 - 30) / 2
    assert (20.0, 40.0, 10.0) == tuple(
        vllm[f"{word}_median_ms"] for word in ("ttft", "e2el", "tpot")
    )
    assert (30.0, 60.0, 15.0) == tuple(
        sglang[f"{word}_median_ms"] for word in ("ttft", "e2el", "tpot")
    )


def test_a_request_without_text_counts():
    """sglang.bench_serving gives it a TTFT of 0 and counts its tokens; it has no ITL."""
    silent = one_request([(20, ""), (30, ""), (40, "")]).requests[0]
    both = Recording(
        start_ns=0,
        end_ns=60 * MS,
        requests=(*one_request().requests, silent),
        client_busy=0.0,
        client_gaps=(),
    )
    found = by_sglang_definitions(both)

    assert (15.0, 10.0, 60.0) == tuple(
        found[f"{word}_median_ms"] for word in ("ttft", "itl", "e2el")
    )
    assert 100.0 == pytest.approx(found["output_throughput"])


@pytest.mark.parametrize("client", ["vllm", "sglang"])
def test_figures_come_under_our_names(tmp_path, client):
    """Both clients' result files are read into the same names."""
    found = run_other(
        other_client(tmp_path, FIGURES),
        CLIENTS[client],
        TARGET,
        WORKLOAD,
        REQUESTS,
    )

    assert {
        "ttft_median_ms",
        "itl_median_ms",
        "tpot_median_ms",
        "e2el_median_ms",
        "output_throughput",
    } == found.keys()


def test_a_client_that_fails_is_an_error(tmp_path):
    """The command, its exit code and its last words."""
    with pytest.raises(ClientFailed, match="exit code 3; broken"):
        run_other(
            other_client(tmp_path, FIGURES, code=3),
            CLIENTS["vllm"],
            TARGET,
            WORKLOAD,
            REQUESTS,
        )


def test_requests_that_the_client_lost_are_an_error(tmp_path):
    """Figures of fewer requests than were asked for are no comparison."""
    with pytest.raises(ClientFailed, match="3 of 4 requests completed"):
        run_other(
            other_client(tmp_path, FIGURES | {"completed": 3}),
            CLIENTS["vllm"],
            TARGET,
            WORKLOAD,
            REQUESTS,
        )


@pytest.mark.parametrize("client", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("how", "seen"),
    [
        (
            {"fault": "http_503", "fault_serials": [1]},
            "1 request failed, first: HTTP 503: overloaded",
        ),
        ({"tokens_per_chunk": 8}, "no answer tells itl_median_ms"),
    ],
)
def test_a_turn_of_the_suite_without_figures_is_an_error(client, how, seen):
    """As one of the other client: nothing is compared."""
    with FakeEngine(ttft_s=0.01, itl_s=0.001, **how) as engine:
        workload = Workload(
            name="w", num_prompts=4, prompts=Synthetic(output_len_tokens=4)
        )
        with pytest.raises(ClientFailed, match=seen):
            run_suite(
                CLIENTS[client],
                target_of(engine),
                workload,
                build_requests(workload, 0, 1000),
            )


@pytest.fixture(scope="module")
def merging():
    """A tokenizer that merges neighbours: text of random ids has fewer tokens than ids."""
    vocabulary = {
        word: i for i, word in enumerate(["?", "a", "b", "c", "ab", "abc"])
    }
    model = tokenizers.models.BPE(
        vocabulary, [("a", "b"), ("ab", "c")], unk_token="?"
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = tokenizers.decoders.Fuse()
    return tokenizer


def test_text_has_as_many_tokens_as_were_drawn(merging):
    """Other clients send text, so ours does too, of the length that was asked for."""
    drawn = [
        Request(0, (1, 2, 3, 1, 2, 3, 1, 2, 3, 3, 2, 1), 3, 0),
        Request(1, (3, 2, 1), 3, 0),
    ]

    texts = [request.text for request in as_text(drawn, merging)]

    assert [12, 3] == [len(merging.encode(text).ids) for text in texts]
    assert "cba" == texts[1]


def test_text_is_what_is_sent():
    """In place of the ids."""
    body = encode(
        Request(0, (1, 2), 3, 0, text="w1 w2"),
        "http://h:1/v1/completions",
        "m",
        "5e",
    ).split(b"\r\n\r\n")[1]

    assert "w1 w2" == json.loads(body)["prompt"]


def test_no_two_turns_share_a_prompt(merging):
    """A server's prefix cache would answer the later one."""
    long = Workload(
        name="c",
        num_prompts=4,
        prompts=Synthetic(input_len_tokens=24, first_id=1),
    )
    target = Target(
        url="http://h:1", served_model="m", vocab_size=6, engine="vllm"
    )
    texts = [
        request.text
        for turn in range(4)
        for request in requests_of(target, turn_of(long, turn), merging)
    ]

    assert 16 == len(set(texts))


def test_sglangs_client_reads_our_text(tmp_path):
    """As conversations of two turns, which its reader of ShareGPT asks for."""
    CLIENTS["sglang"].arguments(TARGET, WORKLOAD, REQUESTS, tmp_path)
    conversations = [
        row["conversations"]
        for row in json.loads((tmp_path / "prompts.json").read_text())
    ]

    assert [r.text for r in REQUESTS] == [
        turns[0]["value"] for turns in conversations
    ]
    assert {2} == {len(turns) for turns in conversations}


def test_vllms_client_draws_other_text_in_each_turn(tmp_path):
    """By its seed."""
    commands = [
        CLIENTS["vllm"].arguments(TARGET, turn_of(WORKLOAD, turn), (), tmp_path)
        for turn in range(4)
    ]
    seeds = {command[command.index("--seed") + 1] for command in commands}

    assert 4 == len(seeds)
    assert {"random"} == {
        command[command.index("--dataset-name") + 1] for command in commands
    }


def test_packages_that_sglangs_client_need_not_have(tmp_path):
    """What stands in for them is found last: a package that is installed is used."""
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "bench_serving.py").write_text(
        "import sys, datasets, torchvision\n"
        "print(datasets.__file__, torchvision.__file__, sys.argv[1:])\n"
    )
    arguments = CLIENTS["sglang"].arguments(
        TARGET, WORKLOAD, REQUESTS, tmp_path
    )
    command = [sys.executable, *arguments]

    def modules(folder):
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(folder)},
        )
        return ended.stdout

    stood_in = modules(tmp_path)
    assert "inside/sglang_client/datasets.py" in stood_in
    assert "inside/sglang_cpu/torchvision.py" in stood_in
    assert "'--base-url'" in stood_in
    (tmp_path / "datasets.py").write_text("")
    assert f"{tmp_path}/datasets.py" in modules(tmp_path)
