"""How does a test make up a run in one line?"""

from __future__ import annotations

from collections.abc import Sequence

from perfgate.load.client import Recording
from perfgate.load.response import Transcript

MS = 1_000_000
# What a machine whose cores are taken by others does to a measurement, whatever the server did.
BUSY_MACHINE = ("the client did not run", "the client itself did not run", "the client was too busy", "sent by ")
BUSY_MACHINE += ("the client fell behind", "fell silent at once")


def other_than_busy(reasons: Sequence[str]) -> list[str]:
    """The reasons or notes of a real measurement that are not the machine's own."""
    return [reason for reason in reasons if not any(words in reason for words in BUSY_MACHINE)]


def transcript(
    sent_ms: float = 0.0,
    chunks_ms: Sequence[float] = (20.0, 30.0, 40.0),
    error: str | None = None,
    output_tokens: int | None = None,
    index: int = 0,
) -> Transcript:
    """One request: sent, and with chunks, at these ms since the start; as many tokens as chunks unless said."""
    tokens = len(chunks_ms) if output_tokens is None else output_tokens
    times = tuple(int(ms * MS) for ms in chunks_ms)
    sent = int(sent_ms * MS)
    return Transcript(
        index=index,
        input_tokens=8,
        output_tokens=tokens,
        sent_tokens=8,
        asked_tokens=tokens,
        due_ns=sent,
        sent_ns=sent,
        end_ns=times[-1] if times else sent,
        chunk_ns=times,
        error=error,
    )


def recording(end_ms: float = 1000.0, gaps_ms: Sequence[tuple[float, float]] = ()) -> Recording:
    """What the client wrote down beside the requests: the run's length and its own absences."""
    gaps = tuple((int(a * MS), int(b * MS)) for a, b in gaps_ms)
    return Recording(start_ns=0, end_ns=int(end_ms * MS), requests=(), client_busy=0.0, client_gaps=gaps)


def steady_streams(count: int = 8, tokens: int = 50, itl_ms: float = 10.0) -> list[list[float]]:
    """Chunk times of `count` streams that start 1 ms apart and tick every `itl_ms`."""
    return [[20 + stream + itl_ms * k for k in range(tokens)] for stream in range(count)]


def stalled(streams: list[list[float]], at_ms: float, length_ms: float) -> list[Transcript]:
    """The same streams with everything after `at_ms` that much later."""
    return [
        transcript(chunks_ms=[t + (length_ms if t > at_ms else 0) for t in times], index=index)
        for index, times in enumerate(streams)
    ]
