"""E21: Does the engine do the same work for a batch, and set itself up as before?

What is counted does not depend on the machine: baselines hold on any CPU.
"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def work(study: Study) -> Iterator[Case]:
    """Calls, operators, new bytes, steps and answers of each batch of each held model.

    Nothing where a base build is compared: it would be launched three times in turn.
    """
    if study.has_base_build:
        return
    for server in study.counted:
        for workload in study.held_workloads:
            for metric in (
                "work_python_calls",
                "work_c_calls",
                "work_operators",
                "work_new_bytes",
                "work_steps",
                "work_answers",
            ):
                case = study.value("E21", metric, server, workload)
                yield msgspec.structs.replace(case, gate="hard")


def instructions(study: Study) -> Iterator[Case]:
    """Instructions of each batch of each held model, where --instructions asks for them."""
    if study.has_base_build:
        return
    for server in study.in_valgrind:
        for workload in study.held_workloads:
            case = study.value("E21", "work_instructions", server, workload)
            yield msgspec.structs.replace(case, gate="hard")


def settings(study: Study) -> Iterator[Case]:
    """What each server chose by itself; judged where no base build is compared."""
    for server in study.models:
        case = study.value("E21", "engine_settings", server, None)
        if study.gpu_count or study.has_base_build:
            yield case.report_only
        else:
            yield msgspec.structs.replace(case, gate="hard")


@pytest.mark.perf(cases=work)
def test_work_of_a_batch(check, case):
    """A batch takes as many calls, operators and steps, and has the same answers, as before."""
    check(case)


@pytest.mark.perf(cases=instructions)
def test_instructions_of_a_batch(check, case):
    """A batch takes as many instructions as before, which is no time."""
    check(case)


@pytest.mark.perf(cases=settings)
def test_engine_settings(check, case):
    """The engine's backends, sizes and caches are those of the baseline."""
    check(case)
