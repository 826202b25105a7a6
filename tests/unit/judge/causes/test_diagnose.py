"""Diagnose: one entry for each cause, with the part of the run that lost."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes.diagnose import _servers_of, who, worth
from perfgate.judge.causes.symptoms import Moved, ServerSymptoms
from perfgate.judge.observation import RunReader
from perfgate.judge.run_status import judged_again
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.results.schema import load
from tests.support import builders as m

ROOT = Path(__file__).resolve().parents[4]


def server(key, sparse=False, ranks=1, engine="e"):
    """A server that lost nothing."""
    return ServerSymptoms(
        key=key,
        engine=engine,
        model=key,
        is_sparse=sparse,
        layers=32,
        ranks=ranks,
        gpus=ranks,
        injected="",
        moved=(),
        changed=(),
        decoding=(),
    )


DENSE, SPARSE = server("dense"), server("sparse", sparse=True)
WIDE = server("wide", ranks=2)
OTHER = server("other", sparse=True, engine="f")


@pytest.mark.parametrize(
    ("lost", "measured", "part"),
    [
        ([SPARSE], [SPARSE], "server"),
        ([SPARSE], [SPARSE, DENSE], "sparse"),
        ([DENSE], [SPARSE, DENSE], "dense"),
        ([SPARSE, DENSE], [SPARSE, DENSE], "dense-too"),
        ([DENSE, WIDE], [DENSE, WIDE], "machine"),
        ([SPARSE, DENSE], [SPARSE, DENSE, OTHER], "engine"),
        ([WIDE], [SPARSE, DENSE, WIDE], "ranks"),
        ([DENSE], [SPARSE, DENSE, WIDE], "server"),
    ],
)
def test_part_of_the_run_that_lost(lost, measured, part):
    """The smallest one that names all of them and no other."""
    assert part == who(lost, measured)


def test_worth_is_by_hour_of_a_gpu():
    """Of the widest closed load; a burst is none."""
    row = Moved(
        case="c",
        metric="output_throughput",
        load="closed-c32",
        streams=32,
        together=False,
        before=1000.0,
        now=500.0,
        loss=0.7,
        noise=None,
        is_red=True,
    )
    burst = dataclasses.replace(row, load="burst", streams=100, together=True)
    two = dataclasses.replace(WIDE, moved=(row, burst))
    value = worth([two])

    assert ("closed-c32", 1.8e6, 0.9e6, "GPU-hour") == (
        value.load,
        value.before,
        value.now,
        value.unit,
    )
    assert worth([DENSE]) is None


def test_servers_with_one_cause_are_one_diagnosis():
    """Sparse and dense of the stored run without a custom all-reduce."""
    run = load(ROOT / "docs/runs/h200x2-planted/no-custom-all-reduce")
    (row,) = judged_again(run, Store(ROOT / "baselines")).diagnoses

    assert ("dense-too", "decode", 2) == (row.who, row.phase, len(row.servers))
    assert row.splits
    assert row.next_step == ""


def test_injection_is_said_of_the_servers_alone_that_have_it():
    """The stored run without async scheduling, as if one server had kept it."""
    run = load(ROOT / "docs/runs/h200x1-planted/no-async/01")
    launches = []
    for row in run.launches:
        injected = {} if "mixtral" in row.server else row.injected
        launches.append(msgspec.structs.replace(row, injected=injected))
    altered = msgspec.structs.replace(run, launches=tuple(launches))
    rows = judged_again(altered, Store(ROOT / "baselines")).diagnoses

    assert [
        (("vllm-llama-3.1-8b-tp1",), "arguments --no-async-scheduling"),
        (("vllm-mixtral-8x7b-tp1-uniform",), ""),
    ] == [(row.servers, row.injected) for row in rows]


def test_another_choice_is_told_where_nothing_is_red():
    """With what it made better: the stored run with another attention backend.

    Its TTFT of one stream is 29 % longer, and launches vary by 10 %.
    """
    run = load(ROOT / "docs/runs/h200x1-planted/attention/02")
    (row,) = judged_again(run, Store(ROOT / "baselines")).diagnoses

    assert ("attention", False) == (row.cause, row.is_loss)
    assert ("attention_backend FLASH_ATTN -> TRITON_ATTN",) == row.evidence
    assert () == row.losses
    assert any("throughput of burst-100" in gain for gain in row.gains)


def test_servers_of_red_ratios_are_those_that_moved():
    """The other side of a ratio has not lost."""
    verdict = Verdict(
        case=m.RATIO.id,
        metric=m.RATIO.metric,
        outcome=Outcome.REGRESSED,
        gate="hard",
        moved="denominator",
        summary="",
    )
    results = m.run(
        {
            m.MOE_LOAD: {"output_throughput": [1000.0]},
            m.DENSE_LOAD: {"output_throughput": [1000.0]},
        },
        [m.RATIO],
    )

    assert {m.RATIO.denominator.server.key} == _servers_of(
        RunReader(results), [verdict], {m.RATIO.id}
    )
