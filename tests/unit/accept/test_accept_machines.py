"""Accepting runs of several machines: each machine has its own launches and its own effect."""

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.results import schema as rundata
from tests.support import builders as m


@pytest.fixture
def taken(tmp_path):
    """Accepts runs of one launch, made on one machine; returns the table of the proposal."""
    store = Store(tmp_path / "baselines")

    def take(machine, first, values, **choice):
        here = m.hardware()
        gpus = tuple(
            msgspec.structs.replace(gpu, uuid=f"{machine}-{gpu.index}")
            for gpu in here.gpus
        )
        folders = []
        for day, value in enumerate(values, first):
            measured = {m.MOE_LOAD: {"output_throughput": [value]}}
            results = m.run(
                measured,
                (m.THROUGHPUT,),
                f"202606{day:02}-120000-1",
                machine=msgspec.structs.replace(here, gpus=gpus),
            )
            folders.append(tmp_path / results.run_id)
            rundata.save(results, folders[-1])
        return accept(
            folders, store, Choice(**choice), env={}
        ).table, results.hardware.machine_id

    def recorded():
        return [
            point.value
            for point in read_recorded(store.path(m.THROUGHPUT, "h200x2"))
            .metrics[m.THROUGHPUT.metric]
            .launches
        ]

    return take, recorded


def test_what_each_machine_detects_is_shown_on_accept(taken):
    """Two machines that differ by 1.5 % tell little of a third; each of them detects 2 %."""
    take, recorded = taken
    alone, first = take("one", 1, [1000.0 * factor for factor in m.QUIET])
    both, second = take("two", 11, [1015.0 * factor for factor in m.QUIET])

    assert "detects a loss of" not in alone
    names = ", ".join(sorted((first, second)))
    assert f"detects a loss of 2.0 % on {names}" in both
    assert 12 == len(recorded())


def test_a_faster_machine_does_not_throw_the_others_away(taken):
    """A machine without launches is 20 % faster: its launches join those of the other."""
    take, recorded = taken
    take("one", 1, [1000.0 * factor for factor in m.QUIET])
    table, _ = take("two", 11, [1200.0])

    assert (
        "joins the recorded launches although the value moved: none of them is of this machine"
        in table
    )
    assert "| 7 of 7 runs on 2 machines |" in table
    assert 7 == len(recorded())
    assert 1200.0 == recorded()[-1]


def test_an_improvement_on_one_machine_hides_no_loss_on_another(tmp_path):
    """Both runs in one command: the worse one needs its reason all the same."""
    store = Store(tmp_path / "baselines")

    def saved(day, machine, value):
        here = m.hardware()
        gpus = tuple(
            msgspec.structs.replace(gpu, uuid=f"{machine}-{gpu.index}")
            for gpu in here.gpus
        )
        measured = {m.MOE_LOAD: {"output_throughput": [value]}}
        run_id, hardware = (
            f"202606{day:02}-120000-1",
            msgspec.structs.replace(here, gpus=gpus),
        )
        rundata.save(
            m.run(measured, (m.THROUGHPUT,), run_id, machine=hardware),
            tmp_path / run_id,
        )
        return tmp_path / run_id

    def take(*folders):
        accept(list(folders), store, Choice(), env={})

    for day, machine in enumerate("aaabbb", 1):
        take(saved(day, machine, 1000.0))

    with pytest.raises(RecordingRefused, match="the new value is worse"):
        take(saved(7, "a", 1300.0), saved(8, "b", 700.0))


def test_a_machine_that_moved_begins_anew_and_the_others_stay(taken):
    """By 3 %, less than machines differ by.

    A slower value needs a reason; --replace begins anew everywhere.
    """
    take, recorded = taken
    for day, (name, value) in enumerate({"one": 1000.0, "two": 1050.0}.items()):
        take(name, 1 + 10 * day, [value * factor for factor in m.QUIET])
    table, _ = take("two", 21, [1082.0])
    assert (
        "replaces the recorded launches of this machine: the value moved; "
        "those of other machines stay" in table
    )
    assert 1082.0 == recorded()[-1]
    assert 7 == len(recorded())

    with pytest.raises(RecordingRefused, match="worse: give a --reason"):
        take("one", 22, [970.0])
    take("one", 22, [970.0], reason="determinism is on by default now")
    assert [1082.0, 970.0] == recorded()

    take("two", 23, [1300.0], replace=True)
    assert [1300.0] == recorded()


def test_the_oldest_launches_of_each_machine_go(taken):
    """The last 30 of one; the only one of another stays, though it is older than all of them."""
    take, recorded = taken
    take("one", 1, [1001.0])
    take("two", 2, [1000.0 + day % 3 for day in range(32)])

    assert 31 == len(recorded())
    assert 1001.0 == recorded()[0]
