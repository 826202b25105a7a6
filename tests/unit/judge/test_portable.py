"""Portable baselines: one folder for every CPU, and no machine in the identity."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge import portable
from perfgate.judge.baseline_schema import BaselineFile
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_case
from perfgate.judge.observation import RunReader, hardware_label
from perfgate.judge.verdict import Outcome
from tests.support import builders as m

WEIGHTS = Case(
    experiment="E6",
    metric="weights_over_arithmetic",
    numerator=Load(server=m.MOE_CPU),
    two_sided=True,
)
# Of the machine: nothing that another one must have, too.
MEMORY = msgspec.structs.replace(WEIGHTS, metric="memory_bytes")


def weights_run(value, **machine):
    """A run on one CPU that holds this multiple of the calculated bytes."""
    hardware = msgspec.structs.replace(m.hardware("cpu"), **machine)
    return m.run(
        {WEIGHTS.numerator: {"weights_over_arithmetic": [value]}},
        [WEIGHTS],
        machine=hardware,
    )


def file_of(results, case):
    """What `accept` writes of the case's value, with a whole identity."""
    reader = RunReader(results)
    observation = reader.observe(case)
    recorded = m.recorded(case, [1.0], None)
    return BaselineFile(
        identity=dict(observation.identity),
        context={},
        provenance=(),
        metrics={case.metric: recorded.metric},
    )


@pytest.mark.parametrize(
    ("case", "expected"),
    [(WEIGHTS, "cpu-any"), (MEMORY, "cpu-some-cpu-avx2-x2")],
)
def test_folder_of_a_metric(case, expected):
    """A portable metric has one folder for every CPU; any other one that of its processor."""
    assert expected == hardware_label(m.hardware("cpu"), case)


def test_a_gpu_has_its_own_folder():
    """What GPUs hold depends on the GPU."""
    assert "h200x2" == portable.label("kv_cache_tokens", "h200x2")


def test_identity_has_no_machine():
    """The fields of the machine are gone, of each side of a ratio as well."""
    fields = {"hardware": "a", "numerator.gpu_count": "0", "model": "b"}
    assert {"model": "b"} == portable.identity(portable.ANY_CPU, fields)
    assert fields == portable.identity("cpu-some-cpu-avx2-x2", fields)


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, Outcome.PASSED), (1.02, Outcome.REGRESSED)]
)
def test_a_machine_that_was_never_measured_is_judged(tmp_path, value, expected):
    """On its first run, by the baseline of another processor: also of 2 % more weights."""
    store = Store(tmp_path)
    file = file_of(weights_run(1.0), WEIGHTS)
    store.write(store.path(WEIGHTS, portable.ANY_CPU), file)

    results = weights_run(value, cpu_name="Another CPU", isa="avx512")

    verdict = judge_case(results, WEIGHTS, store)
    assert expected == verdict.outcome
    assert any("which count on any CPU" in line for line in verdict.details)


def test_a_baseline_of_one_processor_still_counts(tmp_path):
    """A store of an older version has it under one processor, with that in its identity."""
    store = Store(tmp_path)
    file = file_of(weights_run(1.0), WEIGHTS)
    identity = file.identity | {"hardware": "cpu-old-avx2-x2", "mig": "false"}
    file = msgspec.structs.replace(file, identity=identity)
    store.write(store.path(WEIGHTS, "cpu-old-avx2-x2"), file)

    verdict = judge_case(weights_run(1.0), WEIGHTS, store)

    assert Outcome.PASSED == verdict.outcome


def test_calls_belong_to_a_python():
    """Another minor version calls otherwise; operators do not depend on it."""
    context = {"python": "3.11.7", "torch": "2.13.0"}
    calls = portable.python_of("work_python_calls", context)
    assert {"python": "3.11"} == calls
    assert {} == portable.python_of("work_operators", context)
    assert {} == portable.python_of("work_c_calls", {})
