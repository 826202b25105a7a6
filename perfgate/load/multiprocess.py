"""Several client processes that send one workload together.

Beyond some 30,000 chunks a second one process reads them late (docs/measuring.md). Then
the requests are dealt out to several processes, which start at the same moment, and
their records are put together: `client_busy` is the busiest one's, and the client
counts as absent only where all of them were. An open loop is dealt out exactly, each
request keeps its arrival; a closed loop's slots are divided, so a slot freed in one
process is not filled by another.

Run as `python -m perfgate.load.multiprocess`, this module is one of those processes: it
says that it is ready, reads its share from stdin and writes its `Recording` to stdout.
Where the process that started it is gone, it stops sending.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from perfgate.errors import Failure, describe_error, exhausted
from perfgate.load.client import Recording, Sending, send
from perfgate.load.http import RequestRecord
from perfgate.load.workload import Request
from perfgate.locations import IMPORT_ROOT

READY = b"ready\n"
# to read the share, encode it and open connections before the common start
HEAD_START_NS = 300_000_000
Gaps = tuple[tuple[int, int], ...]
Worker = subprocess.Popen[bytes]


class SenderFailed(Failure):
    """A client process of several gave no recording."""


class Share(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What one process is to send; fields as of `perfgate.load.client.Sending`.

    Attributes:
        parent: id of the process that deals out the shares.
    """

    requests: tuple[Request, ...]
    url: str
    model: str
    max_concurrency: int | None
    request_timeout_s: float
    run_timeout_s: float
    silence_timeout_s: float
    start_ns: int
    authorization: str
    kernel_times: bool
    parent: int

    def is_wanted(self) -> bool:
        """Whether the process that waits for the recording is still there."""
        return os.getppid() == self.parent

    def sending(self) -> Sending:
        """How this process sends."""
        return Sending(
            url=self.url,
            model=self.model,
            max_concurrency=self.max_concurrency,
            request_timeout_s=self.request_timeout_s,
            run_timeout_s=self.run_timeout_s,
            silence_timeout_s=self.silence_timeout_s,
            start_ns=self.start_ns,
            authorization=self.authorization,
            kernel_times=self.kernel_times,
            is_alive=self.is_wanted,
            death_reason="the session that sends is gone",
        )


def send_with(
    processes: int, requests: Sequence[Request], sending: Sending
) -> Recording:
    """Send all requests with this many processes; 1 is this process itself.

    Raises:
        SenderFailed: a process did not start, or died.
    """
    slots = sending.max_concurrency or len(requests)
    processes = min(processes, len(requests), slots)
    if processes == 1:
        return send(requests, sending)
    workers: list[Worker] = []
    try:
        for _ in range(processes):
            workers.append(start_worker())
        sending.progress(0, len(requests))
        for worker in workers:
            await_ready(worker)
        start_ns = time.monotonic_ns() + HEAD_START_NS
        shares = []
        for number in range(processes):
            shares.append(share(number, processes, requests, sending, start_ns))
        recordings = finish_all(workers, shares)
        sending.progress(len(requests), len(requests))
    finally:
        end(workers)
        close_pipes(workers)
    return merge_recordings(recordings)


def end(workers: Sequence[Worker]) -> None:
    """Kill those that still run."""
    for worker in workers:
        worker.kill()
        worker.wait()


def close_pipes(workers: Sequence[Worker]) -> None:
    """Close what is left open of processes that have ended."""
    for worker in workers:
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def start_worker() -> Worker:
    """One more client process, which imports the suite that this process runs.

    Raises:
        SenderFailed: this process has no descriptors or memory for it.
    """
    path = [str(IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "perfgate.load.multiprocess"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
    except OSError as error:
        raise SenderFailed(
            tried="start a client process",
            seen=describe_error(error),
            remedy=exhausted(error) or "look at the limits of this process",
        ) from error


def await_ready(worker: Worker) -> None:
    """Wait until it says that it is ready.

    Raises:
        SenderFailed: it exited instead.
    """
    assert worker.stdout is not None
    if worker.stdout.readline() != READY:
        raise SenderFailed(
            tried="start a client process",
            seen=f"exit code {worker.wait()}",
            remedy="its message is above",
        )


def share(
    number: int,
    processes: int,
    requests: Sequence[Request],
    sending: Sending,
    start_ns: int,
) -> Share:
    """Every `processes`-th request, and as many of the slots."""
    slots = sending.max_concurrency
    if slots is not None:
        slots, remainder = divmod(slots, processes)
        if number < remainder:
            slots += 1
    return Share(
        requests=tuple(requests[number::processes]),
        url=sending.url,
        model=sending.model,
        max_concurrency=slots,
        request_timeout_s=sending.request_timeout_s,
        run_timeout_s=sending.run_timeout_s,
        silence_timeout_s=sending.silence_timeout_s,
        start_ns=start_ns,
        authorization=sending.authorization,
        kernel_times=sending.kernel_times,
        parent=os.getpid(),
    )


def finish_all(
    workers: Sequence[Worker], shares: Sequence[Share]
) -> list[Recording]:
    """Give each process its share and wait for all recordings.

    Raises:
        SenderFailed: one has none; the others are killed.
    """
    with ThreadPoolExecutor(len(workers)) as threads:
        try:
            return list(threads.map(finish, workers, shares))
        except BaseException:  # also an interrupt: the threads wait for them
            end(workers)
            raise


def finish(worker: Worker, part: Share) -> Recording:
    """Give one process its share and wait for its recording.

    Raises:
        SenderFailed: it exited with an error, or its recording is damaged.
    """
    output, _ = worker.communicate(msgspec.msgpack.encode(part))
    if worker.returncode != 0:
        raise SenderFailed(
            tried="send with several processes",
            seen=f"one exited with {worker.returncode}",
            remedy="its message is above",
        )
    try:
        return msgspec.msgpack.decode(output, type=Recording)
    except msgspec.DecodeError as error:
        raise SenderFailed(
            tried="send with several processes",
            seen=f"one gave {len(output):,} bytes that are no recording: {error}",
            remedy="send with one: client_processes = 1 in the workload's table of the study",
        ) from error


def merge_recordings(recordings: Sequence[Recording]) -> Recording:
    """One recording of all."""
    gaps = recordings[0].client_gaps
    hang = None
    no_kernel_times = ""
    requests: list[RequestRecord] = []
    for recording in recordings:
        gaps = common_gaps(gaps, recording.client_gaps)
        hang = hang or recording.hang
        no_kernel_times = no_kernel_times or recording.no_kernel_times
        requests += recording.requests
    requests.sort(key=lambda record: record.index)
    return Recording(
        start_ns=recordings[0].start_ns,
        end_ns=max(recording.end_ns for recording in recordings),
        requests=tuple(requests),
        client_busy=max(recording.client_busy for recording in recordings),
        client_gaps=gaps,
        processes=len(recordings),
        hang=hang,
        no_kernel_times=no_kernel_times,
    )


def common_gaps(first: Gaps, second: Gaps) -> Gaps:
    """The times that lie in gaps of both."""
    overlaps = []
    for first_start, first_end in first:
        for second_start, second_end in second:
            start = max(first_start, second_start)
            end = min(first_end, second_end)
            if start < end:
                overlaps.append((start, end))
    return tuple(overlaps)


def main() -> None:
    """One of several processes."""
    # Of a terminal all get it: who deals out the shares ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    content = sys.stdin.buffer.read()
    if not content:
        return  # nobody wants anything
    part = msgspec.msgpack.decode(content, type=Share)
    recording = send(part.requests, part.sending())
    if not part.is_wanted():
        return
    # With PYTHONUNBUFFERED sys.stdout.buffer has no buffer, and may write a part only.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(msgspec.msgpack.encode(recording))


if __name__ == "__main__":
    main()
