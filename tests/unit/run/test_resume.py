"""Resuming: complete measurements are kept, and nothing else."""

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.workload import Workload
from perfgate.results.timing import Session
from perfgate.run.resume import (
    OtherBuild,
    OtherMachine,
    cut_off,
    missing_workloads,
    refuse_other_builds,
    remaining_workloads,
    resumed,
)
from tests.support import builders as m

BURST_LOAD = Load(server=m.MOE, workload=m.BURST)
BURST = m.Case(
    experiment="E1", metric="output_throughput", numerator=BURST_LOAD
)
NEEDS = {m.MOE.key: (m.MOE, (m.CLOSED,)), m.DENSE.key: (m.DENSE, (m.CLOSED,))}


def run(values=None, cases=(m.THROUGHPUT,), **how):
    """A run of three launches of the sparse server and two of the dense one."""
    three = {
        m.MOE_LOAD: {"output_throughput": [1.0, 2.0, 3.0]},
        m.DENSE_LOAD: {"output_throughput": [4.0, 5.0]},
    }
    return m.run(three if values is None else values, cases, **how)


def empty(cases=(m.THROUGHPUT,), machine=None):
    """A session that has measured nothing."""
    fresh = m.run({}, cases, run_id="20260602-120000-2", machine=machine)
    workloads = {m.CLOSED.name: m.CLOSED}
    session = Session(started_unix_s=5.0, seen_unix_s=6.0)
    return msgspec.structs.replace(
        fresh, workloads=workloads, sessions=(session,)
    )


def kept(results):
    """(server, launch) that are there."""
    return [(launch.server, launch.index) for launch in results.launches]


def test_whole_launches_are_kept_and_the_run_goes_on():
    """Under its own name and start; the time of both commands is known."""
    previous = msgspec.structs.replace(
        run(), sessions=(Session(started_unix_s=1.0, seen_unix_s=2.0),)
    )

    results = resumed(empty(), previous, NEEDS)

    assert kept(previous) == kept(results)
    assert (previous.run_id, previous.started) == (
        results.run_id,
        results.started,
    )
    assert [1.0, 5.0] == [
        session.started_unix_s for session in results.sessions
    ]


def test_what_earlier_commands_decided_is_decided_anew():
    """They may have had other baselines; what they asked stays asked."""
    previous = run(cases=(m.THROUGHPUT, m.RATIO))
    row = Verdict(
        case=m.RATIO.id,
        metric="output_throughput",
        outcome=Outcome.PASSED,
        gate="hard",
        summary="",
    )
    previous = msgspec.structs.replace(
        previous, verdicts=(row.row(m.RATIO, "test_then"),)
    )

    results = resumed(empty(), previous, NEEDS)

    assert () == results.verdicts
    assert {m.THROUGHPUT.id, m.RATIO.id} == {case.id for case in results.cases}


def test_failed_requests_are_measured_anew():
    """As those of a launch that died: nothing that it says counts."""
    previous = run()
    failed = msgspec.structs.replace(
        previous.measurements[0].repetitions[0], failed=3
    )
    first = msgspec.structs.replace(
        previous.measurements[0], repetitions=(failed,)
    )
    previous = msgspec.structs.replace(
        previous, measurements=(first, *previous.measurements[1:])
    )

    assert (m.MOE.key, 0) not in kept(resumed(empty(), previous, NEEDS))


def test_a_launch_that_was_cut_is_measured_anew():
    """Though each of its workloads has a repetition or two."""
    previous = run()
    cut = tuple(
        msgspec.structs.replace(row, measured=row.index != 1)
        for row in previous.launches
    )

    results = resumed(
        empty(), msgspec.structs.replace(previous, launches=cut), NEEDS
    )

    assert [(m.MOE.key, 0), (m.MOE.key, 2), (m.DENSE.key, 0)] == kept(results)
    assert {(row.server, row.launch) for row in results.measurements} == set(
        kept(results)
    )
    assert (None, [m.CLOSED]) == tuple(
        missing_workloads(results, m.MOE.key, (m.CLOSED,), n) for n in (2, 3)
    )


def test_a_launch_that_was_cut_and_is_not_asked_this_time_stays():
    """The run stays incomplete, and says so, until a command asks for that server."""
    previous = run()
    cut = tuple(
        msgspec.structs.replace(row, measured=row.server != m.MOE.key)
        for row in previous.launches
    )
    previous = msgspec.structs.replace(previous, launches=cut)
    other = {m.DENSE.key: (m.DENSE, (m.CLOSED,))}

    results = resumed(empty(cases=()), previous, other)

    assert kept(previous) == kept(results)
    assert 3 == len(results.cut_off)
    assert all("stays incomplete" in line for line in cut_off(previous, other))
    assert all("measured again" in line for line in cut_off(previous, NEEDS))


def test_a_launch_that_died_is_measured_anew():
    """It was not itself before, either."""
    previous = run()
    rows = tuple(
        msgspec.structs.replace(row, failure=m.DIED)
        if (row.server, row.launch) == (m.MOE.key, 0)
        else row
        for row in previous.measurements
    )

    results = resumed(
        empty(), msgspec.structs.replace(previous, measurements=rows), NEEDS
    )

    assert (m.MOE.key, 0) not in kept(results)


def test_what_is_not_asked_this_time_is_kept():
    """A command with -k must not throw away what another one measured; its cases stay, too."""
    previous = run(cases=(m.THROUGHPUT, m.RATIO))
    needs = {m.MOE.key: (m.MOE, (m.BURST,))}

    results = resumed(empty(cases=(BURST,)), previous, needs)

    assert kept(previous) == kept(results)
    assert [m.THROUGHPUT.id, m.RATIO.id, BURST.id] == [
        case.id for case in results.cases
    ]
    assert {m.CLOSED.name} <= results.workloads.keys()
    # None of the launches has had the other workload.
    assert [m.BURST] == missing_workloads(
        results, m.MOE.key, (m.BURST, m.CLOSED), 1
    )
    assert [m.BURST, m.CLOSED] == missing_workloads(
        results, m.MOE.key, (m.BURST, m.CLOSED), 4
    )
    assert (None, []) == tuple(
        missing_workloads(results, m.MOE.key, (), n) for n in (3, 4)
    )


def test_what_failed_and_is_not_asked_this_time_stays_failed():
    """A command for another part clears no verdict, whether a server died or did not start."""
    died = run(cases=(m.THROUGHPUT, m.RATIO))
    rows = tuple(
        msgspec.structs.replace(row, failure=m.DIED)
        for row in died.measurements
    )
    died = msgspec.structs.replace(died, measurements=rows)
    unstarted = msgspec.structs.replace(
        run({m.DENSE_LOAD: {"output_throughput": [4.0]}}, cases=died.cases),
        servers=died.servers,
        failures={m.MOE.key: m.DIED},
    )
    other = {m.DENSE.key: (m.DENSE, (m.CLOSED,))}
    base = m.MOE.base.key
    in_pairs = msgspec.structs.replace(
        died,
        servers=died.servers | {base: died.servers[m.MOE.key]},
        failures={base: m.DIED},
    )

    kept_death = resumed(empty(cases=()), died, {})
    kept_failure = resumed(empty(cases=()), unstarted, other)
    tried = resumed(empty(cases=()), unstarted, NEEDS)

    assert kept(died) == kept(kept_death)
    assert {m.MOE.key: m.DIED} == kept_failure.failures
    assert (
        list(died.cases) == list(kept_death.cases) == list(kept_failure.cases)
    )
    assert {} == tried.failures
    assert {} == resumed(empty(), in_pairs, NEEDS).failures


def test_what_no_kept_launch_was_sent_is_not_asked_any_more():
    """A command that was ended before it came to a workload leaves no case of it behind."""
    previous = run(cases=(m.THROUGHPUT, BURST))  # nobody was sent the burst

    results = resumed(empty(cases=()), previous, {})

    assert kept(previous) == kept(results)
    assert [m.THROUGHPUT.id] == [case.id for case in results.cases]


@pytest.mark.parametrize(
    ("died_in", "left"),
    [("routing", ["routing"]), (m.CLOSED.name, [m.CLOSED.name, "routing"])],
)
def test_fresh_launch_is_sent_what_the_dead_one_left(died_in, left):
    """Where everything timed is complete, it is asked for the routing alone.

    So one launch has all that is timed.
    """
    asked = Workload(
        name="routing", num_prompts=4, max_concurrency=1, asks_routing=True
    )
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, (m.THROUGHPUT,))
    timed = results.measurements[0]
    rows = (timed, msgspec.structs.replace(timed, workload="routing"))
    rows = tuple(
        msgspec.structs.replace(
            row, failure=m.DIED if row.workload == died_in else None
        )
        for row in rows
    )

    wanted = remaining_workloads(
        msgspec.structs.replace(results, measurements=rows),
        results.launches[0],
        (m.CLOSED, asked),
    )

    assert left == [workload.name for workload in wanted]


@pytest.mark.parametrize(
    ("died_in", "left"),
    [("accuracy", ["accuracy", "routing"]), ("routing", ["routing"])],
)
def test_questions_are_asked_again_where_they_were_not_answered(died_in, left):
    """Of a fresh launch, which is sent nothing that is timed."""
    graded = Workload(
        name="accuracy", num_prompts=4, max_concurrency=1, graded=True
    )
    asked = msgspec.structs.replace(
        graded, name="routing", graded=False, asks_routing=True
    )
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0]}}, (m.THROUGHPUT,))
    timed = results.measurements[0]
    rows = [timed]
    for name in ("accuracy", "routing"):
        failure = m.DIED if name == died_in else None
        rows.append(
            msgspec.structs.replace(timed, workload=name, failure=failure)
        )

    wanted = remaining_workloads(
        msgspec.structs.replace(results, measurements=tuple(rows)),
        results.launches[0],
        (m.CLOSED, graded, asked),
    )

    assert left == [workload.name for workload in wanted]


@pytest.mark.parametrize("what", ["server", "workload"])
def test_what_is_measured_otherwise_now_is_measured_anew(what):
    """Another argument of the server, or more prompts."""
    config, workload = m.MOE, m.CLOSED
    if what == "server":
        config = msgspec.structs.replace(
            config, extra_args=("--enforce-eager",)
        )
    else:
        workload = msgspec.structs.replace(workload, num_prompts=7)

    results = resumed(empty(), run(), {m.MOE.key: (config, (workload,))})

    assert [(m.DENSE.key, 0), (m.DENSE.key, 1)] == kept(results)


def test_two_machines_are_not_mixed():
    """Launches of another machine are another run: machines differ by more than launches."""
    with pytest.raises(OtherMachine, match="use another --run-dir") as error:
        resumed(empty(machine=m.hardware(driver="590.2")), run(), NEEDS)
    assert "driver 580.1" in error.value.seen


def test_memory_that_a_container_was_given_is_no_other_machine():
    """On GPUs the number of CPU cores does not matter either."""
    fewer = msgspec.structs.replace(
        m.hardware(), host_memory_bytes=1, cpu_count=1
    )
    assert 5 == len(kept(resumed(empty(machine=fewer), run(), NEEDS)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, None),
        (
            {"versions": {"vllm": "0.27.0"}},
            "vllm 0.26.0; the engine is now .*vllm 0.27.0",
        ),
        ({"python": "/b"}, "is now /b"),
        ({"python_origin": "PERFGATE_VLLM_PYTHON"}, None),
    ],
    ids=["same", "version", "python", "named-otherwise"],
)
def test_a_run_is_of_one_build(changed, told):
    """Launches of another build do not answer for this one: the run is not resumed."""
    results = run()

    def software(config):
        return msgspec.structs.replace(results.servers[config.key], **changed)

    refuse_other_builds(
        results, {}, lambda config: pytest.fail("nobody asks for it")
    )
    if told is None:
        refuse_other_builds(results, NEEDS, software)
    else:
        with pytest.raises(OtherBuild, match=told):
            refuse_other_builds(results, NEEDS, software)
