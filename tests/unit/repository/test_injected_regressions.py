"""Table of injected changes: verdicts, and the servers that they name."""

from __future__ import annotations

import gzip

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks.injected_regressions import main
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.judge.baseline_store import Store
from perfgate.results import schema as rundata
from tests.support import builders as m

DENSE = msgspec.structs.replace(m.THROUGHPUT, numerator=m.DENSE_LOAD)
CASES = (m.THROUGHPUT, m.ITL, DENSE, m.RATIO)
INJECTED = {"arguments": "--enforce-eager"}
EAGER = "arguments --enforce-eager"


def run(number, moe=1.0, dense=1.0, injected=None, backend="FLASH_ATTN"):
    """A run of both servers; the sparse one alone has the injection.

    Speeds are shares of 1,000 and 4,000 tok/s.
    """
    values = {
        m.MOE_LOAD: {
            "output_throughput": [1000.0 * moe],
            "itl_median_ms": [10.0 / moe],
        },
        m.DENSE_LOAD: {"output_throughput": [4000.0 * dense]},
    }
    results = m.run(values, CASES, run_id=f"202606{number:02}-120000-1")
    launches = tuple(
        msgspec.structs.replace(
            launch,
            injected=(injected or {}) if launch.server == m.MOE.key else {},
            effective={
                "attention_backend": backend
                if launch.server == m.MOE.key
                else "FLASH_ATTN"
            },
        )
        for launch in results.launches
    )
    return msgspec.structs.replace(results, launches=launches)


@pytest.fixture
def shown(tmp_path):
    """Saves these runs with recorded ones as quiet as an H200's; the lines of the table."""
    recorded = [tmp_path / "recorded" / str(n) for n in range(1, 7)]
    for n, (folder, factor) in enumerate(
        zip(recorded, m.QUIET, strict=True), 1
    ):
        rundata.save(run(n, factor, factor), folder)
    accept(recorded, Store(tmp_path / "baselines"), Choice(), env={})

    def table(runs, *options):
        for name, results in runs.items():
            rundata.save(results, tmp_path / "injected" / name)
        words = [
            str(tmp_path / "injected"),
            "--baselines",
            str(tmp_path / "baselines"),
            *options,
        ]
        done = CliRunner().invoke(main, words)
        assert 0 == done.exit_code, done.output
        return done.output.splitlines()

    return table


def test_injected_change_is_shown_with_its_model(shown):
    """10 % lost in the sparse model: it fails and is named; unchanged runs around it pass."""
    lines = shown(
        {
            "unchanged/01": run(10),
            "eager/01": run(11, moe=0.9, injected=INJECTED),
            "unchanged/02": run(12, moe=1.001),
            "later/01": run(13, moe=0.999, injected=INJECTED),
        }
    )

    assert [
        "| unchanged | 2 | 4 | PASSED 8 | 0 of 2 | - | 0 | 2 green |",
        f"| eager ({EAGER}) | 1 | 2 | REGRESSED 3, PASSED 1 | 1 of 1 | yes | 0 | 2 green |",
        f"| later ({EAGER}) | 1 | 2 | PASSED 4 | 0 of 1 | nothing to name | 0 | 1 green |",
    ] == lines[2:5]
    throughput = f"| eager | **{m.MOE.key}** (injected) | output_throughput | closed-c32: "
    assert throughput + "-10.0 % (slower), **REGRESSED** 1 of 1 |" in lines
    # 1 / 0.9
    assert any(
        "| itl_median_ms | closed-c32: +11.1 % (slower), **REGRESSED** 1 of 1 |"
        in line
        for line in lines
    )
    assert (
        f"| eager | {m.DENSE.key} | output_throughput | closed-c32: unchanged |"
        in lines
    )


def test_packed_runs_are_read(shown, tmp_path):
    """A run that was packed to be kept counts as before."""
    folder = tmp_path / "injected" / "eager" / "01"
    file = rundata.save(run(11, moe=0.9, injected=INJECTED), folder)
    file.with_name(f"{file.name}.gz").write_bytes(
        gzip.compress(file.read_bytes())
    )
    file.unlink()

    assert shown({})[2].startswith(f"| eager ({EAGER}) | 1 | 2 | REGRESSED 3, ")


def test_median_over_launches_and_runs(shown):
    """How far a metric moved is the median of all launches of a kind."""
    lines = shown(
        {
            f"slow/{n:02}": run(10 + n, moe=moe, injected=INJECTED)
            for n, moe in enumerate((0.9, 0.8, 0.5))
        }
    )

    row = next(
        line
        for line in lines
        if "slow" in line and "output_throughput" in line and m.MOE.key in line
    )
    assert "-20.0 % (slower), **REGRESSED** 3 of 3" in row


def test_what_the_engine_reports_is_judged_by_value_and_named(shown):
    """Another attention backend costs 10 %: a regression that names it."""
    lines = shown(
        {
            "attention/01": run(
                11, moe=0.9, injected=INJECTED, backend="TRITON_ATTN"
            )
        }
    )

    assert (
        "| REGRESSED (names its cause) 3, PASSED 1 | 1 of 1 | yes | 0 | none |"
        in lines[2]
    )
    assert any(
        "-10.0 % (slower), **REGRESSED (names its cause)** 1 of 1" in line
        for line in lines
    )


def test_what_a_run_measured_before_it_was_cut_off_is_shown(shown):
    """An injected run that was ended from outside counts and is marked.

    An unchanged one is no evidence of a quiet gate.
    """
    ended, never = (
        msgspec.structs.replace(run(n, moe=0.9, injected=p), complete=False)
        for n, p in ((11, INJECTED), (12, None))
    )
    lines = shown({"eager/01": ended, "unchanged/01": never})

    assert lines[2].startswith(
        f"| eager ({EAGER}; 1 of 1 cut off) | 1 | 2 | REGRESSED 3, "
    )
    assert not any("unchanged |" in line[:14] for line in lines)


def test_no_run_is_held_against_itself(shown, tmp_path):
    """An unchanged run that is part of the baseline is judged by the other runs.

    Where it is all of the baseline, by nothing.
    """
    store = Store(tmp_path / "alone")
    accept([tmp_path / "recorded" / "1"], store, Choice(), env={})
    itself = rundata.load(tmp_path / "recorded" / "1")

    assert (
        "| NO_BASELINE 4 |"
        in shown({"unchanged/01": itself}, "--baselines", str(store.root))[2]
    )
    assert (
        "| PASSED 4 |"
        in shown({}, "--baselines", str(tmp_path / "baselines"))[2]
    )


def test_wrong_model_is_said(shown):
    """If the model that was left alone fails, the table says so.

    A failed unchanged run around it is shown, too.
    """
    lines = shown(
        {
            "unchanged/01": run(10, dense=0.9),
            "odd/01": run(11, dense=0.9, injected=INJECTED),
        }
    )

    assert (
        f"| in 0 of 1; not by {', '.join(sorted([DENSE.id, m.RATIO.id]))} | 1 | 1 RED |"
        in lines[3]
    )


def test_without_a_baseline_nothing_is_found(shown, tmp_path):
    """A case without a baseline is counted as such: neither caught nor a false alarm."""
    for path in (tmp_path / "baselines").rglob("*.json"):
        path.unlink()
    lines = shown(
        {
            "unchanged/01": run(10),
            "eager/01": run(11, moe=0.9, injected=INJECTED),
        },
        "--all",
    )

    assert (
        "| unchanged | 1 | 2 | NO_BASELINE 4 | 0 of 1 | - | 0 | 1 green |"
        == lines[2]
    )
    assert any(
        "nothing to compare with, **NO_BASELINE** 1 of 1" in line
        for line in lines
    )
