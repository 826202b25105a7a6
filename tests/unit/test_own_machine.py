"""Is a run held against launches of its own machine where there are some, and against machines where there are none?"""

import dataclasses
import datetime

import msgspec
import pytest

from perfgate.accept.accept import RecordingRefused, accept
from perfgate.accept.proposal import Choice
from perfgate.accept.retention import anchor_of
from perfgate.judge.baseline_schema import BaselineFile, Known, LaunchPoint, Provenance, read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge
from perfgate.judge.machine_scope import promises, seen_from
from perfgate.judge.observation import RunReader
from perfgate.judge.policy import Scatter, noise_of, noise_of_baseline, policy_for, scatter_of
from perfgate.judge.verdict import Outcome
from perfgate.report.verdict_text import render
from perfgate.results import schema as rundata
from tests.unit import measured as m

# Three machines that differ by 2 %; launches of each by 0.2 %.
MACHINES = {"gpu-a": 980.0, "gpu-b": 1000.0, "gpu-c": 1020.0}
POLICY = policy_for("h200x2", "output_throughput", ratio=False)
QUIET = Scatter(variance=0.002**2, freedom=15.0, machines=3)


def fleet(each=6, **more):
    """A baseline of `each` launches of every machine, each of a run of its own."""
    names = [name for name in MACHINES for _ in range(each)]
    values = [MACHINES[name] * factor for name in MACHINES for factor in m.QUIET[:each]]
    recorded = m.recorded(m.THROUGHPUT, values, delta=0.05, **more)
    machines = {point.run: name for point, name in zip(recorded.metric.launches, names, strict=True)}
    return dataclasses.replace(recorded, machines=machines)


def on(machine, *values):
    """The verdict on launches with these values on that machine."""
    seen = dataclasses.replace(m.seen(m.THROUGHPUT, *values), machine=machine)
    return judge(m.THROUGHPUT, seen, fleet(), today=m.TODAY)


@pytest.mark.parametrize("machine", MACHINES)
def test_unchanged_passes_on_every_machine(machine):
    """Each is as fast as it was."""
    result = on(machine, MACHINES[machine])

    assert (Outcome.PASSED, 0, 0.02) == (result.outcome, result.needs_launches, result.target_effect)
    message = render(result)
    assert f"Baseline: 6 launches of 6 runs, all on this machine ({machine})." in message
    assert "Launch-to-launch variation is pooled with 2 other machines." in message


def test_a_loss_of_2_percent_is_caught_on_its_own_machine():
    """The fastest one at 999.6, in the middle of what all of them do, has lost 2 %."""
    slow = MACHINES["gpu-c"] * 0.98

    assert Outcome.REGRESSED == on("gpu-c", slow, slow, slow).outcome
    for elsewhere in ("gpu-b", "gpu-new", None):
        assert Outcome.PASSED == on(elsewhere, slow, slow, slow).outcome


def test_where_nothing_tells_machines_apart_all_launches_count():
    """As on CPUs; so do all where one launch's machine is not known."""
    assert "Baseline: 18 launches of 18 runs." in render(on(None, 1000.0))

    baseline = fleet()
    some = dataclasses.replace(baseline, machines=dict(list(baseline.machines.items())[1:]))
    assert some is seen_from(some, "gpu-a", POLICY)


def test_on_a_new_machine_each_recorded_one_counts_once():
    """Three machines tell little of a fourth, however often each was launched: the line is as wide as for three."""
    result = on("gpu-new", 1000.0)

    assert "3 machines, each counted once; gpu-new has too few launches of its own." in render(result)
    assert "the threshold is widened until 6 launches of 3 runs are recorded on this machine" in render(result)
    assert Outcome.PASSED == on("gpu-new", 960.0, 960.0, 960.0).outcome
    assert Outcome.REGRESSED == on("gpu-new", 850.0, 850.0, 850.0).outcome


def mixed(**launches):
    """A baseline of so many launches of each machine, each of a run of its own, as gpu-c sees it."""
    names = [f"gpu-{letter}" for letter, count in launches.items() for _ in range(count)]
    values = [MACHINES[name] * m.QUIET[names[:n].count(name)] for n, name in enumerate(names)]
    recorded = m.recorded(m.THROUGHPUT, values, delta=0.05)
    machines = {point.run: name for point, name in zip(recorded.metric.launches, names, strict=True)}
    return seen_from(dataclasses.replace(recorded, machines=machines), "gpu-c", POLICY)


def test_where_others_tell_how_launches_scatter_one_of_its_own_will_do():
    """Six of a neighbour, or four and three of two: as well known as by six of its own, and promised accordingly."""
    for seen in (mixed(a=6, c=1), mixed(a=4, b=3, c=1)):
        assert ("gpu-c", 1) == (seen.only_machine, len(seen.metric.launches))
        assert 0.02 <= seen.metric.delta <= 0.04
        assert noise_of_baseline(seen.metric, POLICY, seen.elsewhere).firm
    assert mixed(a=6, c=3).metric.delta <= mixed(a=6, c=1).metric.delta


def test_where_others_tell_too_little_two_launches_are_one_machine_among_others():
    """From three on they stand for themselves, provisional until there are six."""
    two, three = mixed(a=2, b=2, c=2), mixed(a=1, b=1, c=3)

    assert (3, None) == (two.counted_machines, two.only_machine)
    assert [value * m.QUIET[0] for value in MACHINES.values()] == pytest.approx(
        [point.value for point in two.metric.launches], rel=0.01
    )
    assert (3, "gpu-c", 0.05) == (len(three.metric.launches), three.only_machine, three.metric.delta)


def test_a_noisy_machine_widens_its_own_line():
    """What the others lend weighs no more than six launches do: twelve of its own that scatter more count for more."""
    noisy = noise_of([1000 * (1 + 0.01 * (-1) ** n) for n in range(12)], [str(n) for n in range(12)], POLICY, QUIET)

    assert 0.006 < noisy.sigma < 0.0105
    assert (16.0, True, 3) == (noisy.freedom, noisy.firm, noisy.lenders)


def test_launches_of_one_session_do_not_tell_how_much_launches_scatter():
    """Six of one run: neither do they lend anything, nor do they narrow what others lend."""
    points = [LaunchPoint(run="one", launch=n, value=1000.0 + n) for n in range(6)]
    alone = noise_of([p.value for p in points], [p.run for p in points], POLICY, QUIET)

    assert None is scatter_of([points, points[:1]])
    assert (5.0, pytest.approx(0.002), True) == (alone.freedom, alone.sigma, alone.firm)


def test_sides_of_a_ratio_are_counted_by_machine_too():
    """The message says which side moved, beside those of the machines."""
    recorded = m.recorded(m.RATIO, [4.0, 16.0, 2.0])
    machines = dict(zip((p.run for p in recorded.metric.launches), ("gpu-a", "gpu-a", "gpu-b"), strict=True))
    points = seen_from(dataclasses.replace(recorded, machines=machines), "gpu-new", POLICY).metric.launches

    assert [pytest.approx((8.0, 800.0, 100.0)), pytest.approx((2.0, 200.0, 100.0))] == [
        (point.value, point.of, point.over) for point in points
    ]


def test_only_machines_with_launches_enough_promise_by_themselves():
    """Six of each, or two that the others help; one of each promises nothing that is firm."""
    assert dict.fromkeys(MACHINES, 0.02) == promises(fleet(), POLICY)
    assert set(MACHINES) == set(promises(fleet(4), POLICY))
    assert {} == promises(fleet(1), POLICY)


def test_one_machine_alone_is_as_it_was():
    """All launches are its own, whose promise a person took over."""
    baseline = fleet()
    alone = dataclasses.replace(baseline, machines=dict.fromkeys(baseline.machines, "gpu-a"))

    assert alone is seen_from(alone, "gpu-a", POLICY)


def test_a_known_regression_stays_with_its_launches():
    """By how much it is worse was told beside all of them."""
    known = Known(until=str(m.TODAY + datetime.timedelta(days=9)), reason="accepted", worse_by=0.03)
    baseline = fleet(known=known)

    assert baseline is seen_from(baseline, "gpu-a", POLICY)


def test_the_store_tells_which_machine_each_run_was_on(tmp_path):
    """By the provenance of the file; a run whose machine nobody noted has none."""
    metric = fleet().metric
    runs = [point.run for point in metric.launches]
    told = {runs[0]: "gpu-a", runs[1]: "gpu-b", runs[2]: None}
    provenance = tuple(
        Provenance(run=run, accepted="2026-06-01", suite_version="0.1.0", metrics=("output_throughput",), machine=name)
        for run, name in told.items()
    )
    store = Store(tmp_path)
    file = BaselineFile(identity={}, context={}, provenance=provenance, metrics={"output_throughput": metric})
    store.write(store.path(m.THROUGHPUT, "h200x2"), file)

    assert {runs[0]: "gpu-a", runs[1]: "gpu-b"} == Store(tmp_path).find(m.THROUGHPUT, "h200x2").machines


def test_a_run_says_which_machine_it_was_on():
    """By its GPUs; a CPU has no name of its own."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, [m.THROUGHPUT])
    cpu = msgspec.structs.replace(results, hardware=m.hardware("cpu"))

    assert m.hardware().machine_id == RunReader(results).observe(m.THROUGHPUT).machine
    assert None is RunReader(cpu).observe(m.THROUGHPUT).machine


def test_a_host_of_many_gpus_is_a_machine_for_each_set_that_servers_ran_on():
    """Two GPUs of eight are another machine than the next two, and a ratio's machine is the GPUs of both servers."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}, m.DENSE_LOAD: {"output_throughput": [1.0]}}, [m.RATIO])
    results = msgspec.structs.replace(results, hardware=m.hardware(count=8))

    def launched_on(moe, dense):
        gpus = {m.MOE.key: moe, m.DENSE.key: dense}
        launches = tuple(
            msgspec.structs.replace(
                row, start=msgspec.structs.replace(row.start, env={"CUDA_VISIBLE_DEVICES": gpus[row.server]})
            )
            for row in results.launches
        )
        reader = RunReader(msgspec.structs.replace(results, launches=launches))
        return reader.observe(m.THROUGHPUT).machine, reader.observe(m.RATIO).machine

    first, second = launched_on("0,1", "0,1"), launched_on("2,3", "2,3")

    assert first[0] == first[1] != second[0] == second[1]
    assert first[0] == m.hardware(count=2).machine_id
    assert launched_on("0,1", "2")[1] not in (first[0], second[0])


@pytest.fixture
def taken(tmp_path):
    """Takes runs of one launch over that were made on one machine; returns the table of what was proposed."""
    store = Store(tmp_path / "baselines")

    def take(machine, first, values, **choice):
        here = m.hardware()
        gpus = tuple(msgspec.structs.replace(gpu, uuid=f"{machine}-{gpu.index}") for gpu in here.gpus)
        folders = []
        for day, value in enumerate(values, first):
            measured = {m.MOE_LOAD: {"output_throughput": [value]}}
            results = m.run(
                measured, (m.THROUGHPUT,), f"202606{day:02}-120000-1", machine=msgspec.structs.replace(here, gpus=gpus)
            )
            folders.append(tmp_path / results.run_id)
            rundata.save(results, folders[-1])
        return accept(folders, store, Choice(**choice), env={}).table, results.hardware.machine_id

    def recorded():
        return [
            point.value
            for point in read_recorded(store.path(m.THROUGHPUT, "h200x2")).metrics[m.THROUGHPUT.metric].launches
        ]

    return take, recorded


def test_what_each_machine_promises_is_shown_when_runs_are_taken_over(taken):
    """Two machines that differ by 1.5 % promise up to 5 % together, and each of them 2 %."""
    take, recorded = taken
    alone, first = take("one", 1, [1000.0 * factor for factor in m.QUIET])
    both, second = take("two", 11, [1015.0 * factor for factor in m.QUIET])

    assert " alone " not in alone
    assert f"on {min(first, second)}, {max(first, second)} alone 2.0 %" in both
    assert 12 == len(recorded())


def test_a_faster_machine_does_not_throw_the_others_away(taken):
    """A machine that nothing was recorded on is 20 % faster: its launches join those of the other."""
    take, recorded = taken
    take("one", 1, [1000.0 * factor for factor in m.QUIET])
    table, _ = take("two", 11, [1200.0])

    assert "joins although it moved: nothing was recorded on this machine (--replace begins anew)" in table
    assert "| 7 of 7 runs on 2 machines |" in table
    assert 7 == len(recorded())
    assert 1200.0 == recorded()[-1]


def test_a_better_machine_that_joins_raises_what_losses_are_counted_from():
    """With the mean of all; a worse one, or a known one, leaves it."""
    recorded = fleet()
    before = anchor_of(recorded, {"gpu-a"}, 900.0, POLICY)

    assert before == anchor_of(recorded, {"gpu-b"}, 800.0, POLICY)
    assert before == anchor_of(recorded, {"gpu-new"}, 0.9 * before, POLICY)
    assert 1.1 * before == pytest.approx(anchor_of(recorded, {"gpu-new"}, 1.1 * before, POLICY))
    begun = dataclasses.replace(recorded, metric=msgspec.structs.replace(recorded.metric, anchor=2 * before))
    assert 2.2 * before == pytest.approx(anchor_of(begun, {"gpu-new"}, 1.1 * before, POLICY))


def test_an_improvement_on_one_machine_hides_no_loss_on_another(tmp_path):
    """Both runs in one command: the worse one needs its reason all the same."""
    store = Store(tmp_path / "baselines")

    def saved(day, machine, value):
        here = m.hardware()
        gpus = tuple(msgspec.structs.replace(gpu, uuid=f"{machine}-{gpu.index}") for gpu in here.gpus)
        measured = {m.MOE_LOAD: {"output_throughput": [value]}}
        run_id, hardware = f"202606{day:02}-120000-1", msgspec.structs.replace(here, gpus=gpus)
        rundata.save(m.run(measured, (m.THROUGHPUT,), run_id, machine=hardware), tmp_path / run_id)
        return tmp_path / run_id

    def take(*folders):
        accept(list(folders), store, Choice(), env={})

    for day, machine in enumerate("aaabbb", 1):
        take(saved(day, machine, 1000.0))

    with pytest.raises(RecordingRefused, match="the new value is worse"):
        take(saved(7, "a", 1300.0), saved(8, "b", 700.0))


def test_a_machine_that_moved_begins_anew_and_the_others_stay(taken):
    """By 3 %, less than machines differ by. What is slower there needs a reason; --replace begins anew everywhere."""
    take, recorded = taken
    for day, (name, value) in enumerate({"one": 1000.0, "two": 1050.0}.items()):
        take(name, 1 + 10 * day, [value * factor for factor in m.QUIET])
    table, _ = take("two", 21, [1082.0])
    assert "replaces the recorded launches: the value moved there; those of other machines stay" in table
    assert 1082.0 == recorded()[-1]
    assert 7 == len(recorded())

    with pytest.raises(RecordingRefused, match="worse: give a --reason"):
        take("one", 22, [970.0])
    take("one", 22, [970.0], reason="determinism is on by default now")
    assert [1082.0, 970.0] == recorded()

    take("two", 23, [1500.0], replace=True)
    assert [1500.0] == recorded()


def test_the_oldest_launches_of_each_machine_go(taken):
    """The last 30 of one; the only one of another stays, though it is older than all of them."""
    take, recorded = taken
    take("one", 1, [1001.0])
    take("two", 2, [1000.0 + day % 3 for day in range(32)])

    assert 31 == len(recorded())
    assert 1001.0 == recorded()[0]
