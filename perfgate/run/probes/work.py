"""Work probe: counts what a held engine does for each batch of a workload, on one launch.

Counts do not depend on how fast the machine is, so one batch is enough.
"""

from __future__ import annotations

import time

import msgspec

from perfgate.engines.base import ServerConfig
from perfgate.engines.counts import (
    CountedBatch,
    Counts,
    Instructions,
    count_batch,
    count_instructions,
)
from perfgate.load.repetition import Repetition
from perfgate.load.workload import Workload, build_requests
from perfgate.models import catalogue as models
from perfgate.results.schema import Measurement
from perfgate.web import NoAnswer

UNSTEADY = "the same batch was answered otherwise the second time"
NOTE = "work is counted: not timed"


def measure(
    config: ServerConfig, url: str, launch: int, workload: Workload
) -> Measurement:
    """The workload's one repetition: counts, and no times.

    It is invalid where the engine does not answer, or answers the same prompts
    otherwise.
    """
    started_unix_s = time.time()
    began_s = time.monotonic()
    batch = batch_of(config, workload)
    counts: Counts | Instructions | None = None
    invalid: tuple[str, ...] = ()
    try:
        counts = _count(config, url, batch)
    except NoAnswer as failure:
        invalid = (failure.seen,)
    repetition = Repetition(
        index=0,
        started_unix_s=started_unix_s,
        duration_s=time.monotonic() - began_s,
        completed=0,
        failed=int(counts is None),
        input_tokens=0,
        output_tokens=0,
        values={},
        invalid=invalid,
        notes=(NOTE,),
        server_values={},
        client_values={},
        requests=(),
    )
    row = Measurement(
        server=config.key,
        launch=launch,
        workload=workload.name,
        repetitions=(repetition,),
    )
    if counts is None:
        return row
    return _counted(row, counts)


def _count(
    config: ServerConfig, url: str, batch: CountedBatch
) -> Counts | Instructions:
    if config.instructions:
        return count_instructions(url, batch)
    return count_batch(url, batch)


def _counted(row: Measurement, counts: Counts | Instructions) -> Measurement:
    """The measurement with what was counted."""
    (repetition,) = row.repetitions
    invalid: tuple[str, ...] = ()
    if not counts.repeats:
        invalid = (UNSTEADY,)
    repetition = msgspec.structs.replace(
        repetition,
        completed=len(counts.answers),
        output_tokens=counts.tokens,
        values=counts.values(),
        invalid=invalid,
    )
    return msgspec.structs.replace(
        row,
        repetitions=(repetition,),
        operators=counts.operators,
        answers=counts.answers,
    )


def batch_of(config: ServerConfig, workload: Workload) -> CountedBatch:
    """The prompts of the workload's first repetition, the same in every run."""
    architecture = models.lookup(config.model).architecture
    requests = build_requests(workload, 0, architecture.vocab_size)
    lengths = {request.output_len_tokens for request in requests}
    return CountedBatch(
        prompts=[request.prompt_token_ids for request in requests],
        output_len_tokens=max(lengths),
        max_concurrency=workload.max_concurrency or len(requests),
    )
