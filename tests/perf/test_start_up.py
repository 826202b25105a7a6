"""E12: How long does a server take to start, and to be warm?"""

from collections.abc import Iterator

import pytest

from perfgate.cases import Case
from perfgate.study import Study

PHASES = (
    "start_imports_s",
    "start_weights_s",
    "start_compile_s",
    "start_graphs_s",
    "warm_up_s",
    "warm_up_compiled",
)


def start(study: Study) -> Iterator[Case]:
    """Each model's time from launch to the first healthy answer, on GPUs or with --soak.

    It is judged coarsely. A first start on a machine compiles, and takes two to three
    times as long as a later one; where the engine tells which it was, each kind is
    compared with its own.
    """
    if study.gpu_count == 0 and not study.soak_minutes:
        return
    for server in study.models:
        yield study.value("E12", "ready_s", server, None)


def phases(study: Study) -> Iterator[Case]:
    """The parts of it, and the warm-up that follows, on GPUs; report-only.

    They name what a slower start spends its time on. How long the warm-up takes depends
    on the workloads that were selected.
    """
    if study.gpu_count == 0:
        return
    for server in study.models:
        for metric in PHASES:
            yield study.value("E12", metric, server, None).report_only


@pytest.mark.perf(cases=start)
def test_start_up(check, case):
    """A server is ready as soon as before."""
    check(case)


@pytest.mark.perf(cases=phases)
def test_start_up_phases(check, case):
    """No part of the start, and no warm-up, takes longer than before."""
    check(case)
