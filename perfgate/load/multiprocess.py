"""What if one client process is not enough?

Beyond some 30,000 chunks a second one process reads them late (docs/measuring.md). Then
the requests are dealt out to several processes, which start at the same moment, and
their records are put together: `client_busy` is the busiest one's, and the client
counts as absent only where all of them were. An open loop is dealt out exactly, each
request keeps its arrival; a closed loop's slots are divided, so a slot freed in one
process is not filled by another.

Run as `python -m perfgate.load.multiprocess`, this module is one of those processes: it
says that it is ready, reads its share from stdin and writes its `Recording` to stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from perfgate.errors import Failure
from perfgate.load.client import Recording, Sending, send
from perfgate.load.workload import Request
from perfgate.locations import IMPORT_ROOT

READY = b"ready\n"
# to read the share, encode it and open connections before the common start
HEAD_START_NS = 300_000_000
Gaps = tuple[tuple[int, int], ...]


class SenderFailed(Failure):
    """A client process of several gave no recording."""


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one process is to send."""

    requests: tuple[Request, ...]
    url: str
    model: str
    max_concurrency: int | None
    request_timeout_s: float
    run_timeout_s: float
    silence_timeout_s: float
    start_ns: int


def send_with(
    processes: int, requests: Sequence[Request], sending: Sending
) -> Recording:
    """Send all requests with this many processes; 1 is this process itself.

    Raises:
        SenderFailed: a process died.

    """
    slots = sending.max_concurrency
    processes = min(processes, len(requests), slots or len(requests))
    if processes == 1:
        return send(requests, sending)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            [str(IMPORT_ROOT), os.environ.get("PYTHONPATH", "")]
        )
    }
    command = [sys.executable, "-m", "perfgate.load.multiprocess"]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        for _ in range(processes)
    ]
    try:
        sending.progress(0, len(requests))
        for worker in workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != READY:
                raise SenderFailed(
                    "start a client process",
                    f"exit code {worker.wait()}",
                    "its message is above",
                )
        start_ns = time.monotonic_ns() + HEAD_START_NS
        shares = [
            share(k, processes, requests, sending, start_ns) for k in range(processes)
        ]
        with ThreadPoolExecutor(processes) as threads:
            recordings = list(threads.map(finish, workers, shares))
        sending.progress(len(requests), len(requests))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return together(recordings)


def share(
    number: int,
    processes: int,
    requests: Sequence[Request],
    sending: Sending,
    start_ns: int,
) -> Share:
    """Every `processes`-th request, and as many of the slots."""
    slots = sending.max_concurrency
    return Share(
        requests=tuple(requests[number::processes]),
        url=sending.url,
        model=sending.model,
        max_concurrency=None
        if slots is None
        else slots // processes + (number < slots % processes),
        request_timeout_s=sending.request_timeout_s,
        run_timeout_s=sending.run_timeout_s,
        silence_timeout_s=sending.silence_timeout_s,
        start_ns=start_ns,
    )


def finish(worker: subprocess.Popen[bytes], part: Share) -> Recording:
    """Give one process its share and wait for its recording."""
    output, _ = worker.communicate(msgspec.msgpack.encode(part))
    if worker.returncode != 0:
        raise SenderFailed(
            "send with several processes",
            f"one exited with {worker.returncode}",
            "its message is above",
        )
    return msgspec.msgpack.decode(output, type=Recording)


def together(recordings: Sequence[Recording]) -> Recording:
    """One recording of all."""
    gaps = recordings[0].client_gaps
    for recording in recordings[1:]:
        gaps = common(gaps, recording.client_gaps)
    return Recording(
        start_ns=recordings[0].start_ns,
        end_ns=max(recording.end_ns for recording in recordings),
        requests=tuple(
            sorted(
                (r for recording in recordings for r in recording.requests),
                key=lambda r: r.index,
            )
        ),
        client_busy=max(recording.client_busy for recording in recordings),
        client_gaps=gaps,
        processes=len(recordings),
        hang=next((r.hang for r in recordings if r.hang is not None), None),
    )


def common(one: Gaps, other: Gaps) -> Gaps:
    """The times that lie in gaps of both."""
    overlaps = ((max(a, c), min(b, d)) for a, b in one for c, d in other)
    return tuple((start, end) for start, end in overlaps if start < end)


def main() -> None:
    """One of several processes."""
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    part = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Share)
    fields = {
        name: getattr(part, name)
        for name in Share.__struct_fields__
        if name != "requests"
    }
    sys.stdout.buffer.write(
        msgspec.msgpack.encode(send(part.requests, Sending(**fields)))
    )


if __name__ == "__main__":
    main()
