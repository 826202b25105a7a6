"""Repetition: result of one repetition of one workload on one server, as a run stores it.

Apart from `perfgate.load.measurement`, so that reading a run loads no client.
"""

from __future__ import annotations

import re

import msgspec

from perfgate.machine.telemetry import THROTTLE_REASON, GpuSummary

# How each reason begins that the client or its machine causes, and no other one.
CLIENT_REASON = "the client "
# And each that the engine's machine causes: others use its cores.
HOST_REASON = "the engine waited for a core"
# And where somebody removed or emptied the log of a running server.
LOG_REASON = "whether the engine compiled is not known"
# In front of a reason: which step of a ramp it is of, and how many requests it failed.
PREFIX = re.compile(r"^(?:\d+ streams: )?(?:\d+ of \d+ requests failed: )?")
# Client values of servers on a CPU: of the cores' time, what neither server nor client
# used, and what nobody used.
OTHERS_SHARE = "others_share"
IDLE_SHARE = "idle_share"
# From here on a repetition is that of a machine which others use: so much is theirs, and
# hardly anything was left.
MOST_OF_OTHERS = 0.15
LEAST_IDLE = 0.10


class RequestRow(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One request in the run's data.

    Attributes:
        scheduled_ms, sent_ms: since the start of the repetition; `sent_ms` is None of a
            request that never left.
        ttft_ms, e2el_ms: latencies; None of a request that failed.
        output_tokens: by the server's usage; the chunks of a request that failed.
        itl_ms: gaps between chunks.
        error: why it failed; None if it did not.
    """

    scheduled_ms: float
    sent_ms: float | None
    ttft_ms: float | None
    e2el_ms: float | None
    output_tokens: int
    itl_ms: tuple[float, ...]
    error: str | None


class LoadStep(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """One closed loop of a ramp to saturation.

    Attributes:
        streams: requests in flight.
        tokens_in_flight: of all streams at the end of their answers: what the KV cache
            must hold at most.
        preemptions: requests that the engine put back.
        values: metric name -> value.
    """

    streams: int
    tokens_in_flight: int
    preemptions: int
    values: dict[str, float]


class Repetition(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """What one repetition measured.

    Attributes:
        values: metric name -> value, of those metrics that this repetition has.
        invalid: reasons why it may not be judged; empty if it may.
        server_values: what the server counted meanwhile.
        client_values: how the client fared: busy share, processes, lateness, tokens of
            a chunk, share of gaps that are far shorter than a step; whether times are
            the kernel's (1) or the client's (0), and how long after the kernel received
            data the client read it; what of the cores' time was idle, and what others
            used.
        gpus: what each GPU of the server did meanwhile.
        hang: how the server hung in the middle of it; None if it did not.
        unchecked: rules of validity that could not be applied, and why.
        steps: of a ramp to saturation; its requests are not kept.
    """

    index: int
    started_unix_s: float
    duration_s: float
    completed: int
    failed: int
    input_tokens: int
    output_tokens: int
    values: dict[str, float]
    invalid: tuple[str, ...]
    notes: tuple[str, ...]
    server_values: dict[str, float]
    client_values: dict[str, float]
    requests: tuple[RequestRow, ...]
    gpus: tuple[GpuSummary, ...] = ()
    hang: str | None = None
    unchecked: tuple[str, ...] = ()
    steps: tuple[LoadStep, ...] = ()

    @property
    def is_spoilt_by_client(self) -> bool:
        """Whether the client, or a machine, made it invalid; the server may have too."""
        reasons = (CLIENT_REASON, HOST_REASON, LOG_REASON)
        is_told = False
        for row in self.invalid:
            text = PREFIX.sub("", row)
            if text.startswith(reasons) or THROTTLE_REASON.match(text):
                is_told = True
        return is_told or (bool(self.invalid) and self.is_beside_others)

    @property
    def is_beside_others(self) -> bool:
        """Whether others used the cores meanwhile, and left too few."""
        others = self.client_values.get(OTHERS_SHARE, 0.0)
        idle = self.client_values.get(IDLE_SHARE, 1.0)
        return others > MOST_OF_OTHERS and idle < LEAST_IDLE
