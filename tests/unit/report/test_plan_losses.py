"""Losses of a plan: what recorded launches detect, and how many exclude their ceiling."""

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.judge.baseline_store import Store
from perfgate.report import plan_losses
from perfgate.results import schema as rundata
from tests.support import builders as m


def quiet_store(folder):
    """Baselines of a throughput that hardly varies, of a run a day."""
    store = Store(folder / "baselines")
    folders = []
    for number, factor in enumerate(m.QUIET, 1):
        values = {m.MOE_LOAD: {"output_throughput": [3000.0 * factor]}}
        rundata.save(
            m.run(values, [m.THROUGHPUT], f"202606{number:02}-120000-1"),
            folder / str(number),
        )
        folders.append(folder / str(number))
    accept(folders, store, Choice(), env={})
    return store


def test_smallest_loss_that_is_detected(tmp_path):
    """By metric: established, provisional, no baseline, report-only.

    Also on a machine that is none of these.
    """
    store = quiet_store(tmp_path)
    tail = msgspec.structs.replace(m.TTFT_P99, metric="itl_p99_ms")

    for machine in (m.hardware(), m.hardware("cpu")):
        caught = plan_losses.detectable_losses(
            [m.THROUGHPUT, m.ITL, tail], store, machine, "h200"
        )

        assert {"established": [0.02]} == {
            state: pytest.approx(v)
            for state, v in caught["output_throughput"].items()
        }
        assert (["no baseline"], ["report-only"]) == (
            list(caught["itl_median_ms"]),
            list(caught["itl_p99_ms"]),
        )


def other_machine(number):
    """Two GPUs of another host."""
    machine = m.hardware()
    gpus = []
    for gpu in machine.gpus:
        uuid = f"GPU-{number}-{gpu.index}"
        gpus.append(msgspec.structs.replace(gpu, uuid=uuid))
    return msgspec.structs.replace(machine, gpus=tuple(gpus))


def test_baseline_of_the_gpus_that_a_server_would_have(tmp_path):
    """A server on two GPUs of a host of eight is judged by what these two were."""
    store = Store(tmp_path / "baselines")
    folders = []
    for number, factor in enumerate(m.QUIET, 1):
        for host in range(3):
            machine = other_machine(host) if host else m.hardware()
            value = 3000.0 * factor * (1 - 0.08 * host)
            run_id = f"202606{number:02}-120000-{host + 1}"
            rundata.save(
                m.run(
                    {m.MOE_LOAD: {"output_throughput": [value]}},
                    [m.THROUGHPUT],
                    run_id,
                    machine=machine,
                ),
                tmp_path / run_id,
            )
            folders.append(tmp_path / run_id)
    accept(folders, store, Choice(reason="three hosts"), env={})

    caught = []
    for machine in (m.hardware(), m.hardware(count=8), other_machine(7)):
        losses = plan_losses.detectable_losses(
            [m.THROUGHPUT], store, machine, "h200"
        )
        caught.append(losses["output_throughput"])

    assert caught[0] == caught[1] != caught[2]


def test_exclusions_are_counted_by_ceiling():
    """Rows that are excluded now, by three launches, and by no number of launches."""
    rows = [
        plan_losses.Exclusion(0.05, 1),
        plan_losses.Exclusion(0.05, 3),
        plan_losses.Exclusion(0.05, None),
        plan_losses.Exclusion(0.10, 3),
        plan_losses.Exclusion(5.9, 1),
    ]

    assert [
        "1 of 3 recorded rows exclude a loss of 5.0 %, 1 more with --launches 3; "
        "1 more after further recorded launches.",
        "0 of 1 recorded rows exclude a loss of 10.0 %, 1 more with --launches 3.",
        "1 of 1 recorded rows exclude 6.9 times the recorded time.",
    ] == plan_losses.format_exclusions(rows, 1)
    assert [
        "2 of 3 recorded rows exclude a loss of 5.0 %; 1 more after further recorded "
        "launches.",
        "1 of 1 recorded rows exclude a loss of 10.0 %.",
        "1 of 1 recorded rows exclude 6.9 times the recorded time.",
    ] == plan_losses.format_exclusions(rows, 3)


def test_recorded_rows_are_compared_with_their_ceiling(tmp_path):
    """Quiet launches exclude 5 % by one launch; a smaller ceiling by more of them, or none."""
    store = quiet_store(tmp_path)

    def rows(ceilings):
        return plan_losses.exclusions(
            [m.THROUGHPUT, m.ITL], store, m.hardware(), "h200", ceilings
        )

    assert [plan_losses.Exclusion(0.05, 1)] == rows({})
    # The target effect is 2 %: no smaller ceiling counts.
    (tight,) = rows({"all": 0.001})
    assert 0.02 == tight.ceiling
