"""Notices: what a verdict does not say by itself."""

import msgspec

from perfgate.errors import Failure
from perfgate.load.frozen import Frozen
from perfgate.report import notices
from perfgate.results.verdict import Screen, Verdict
from tests.support import builders as m
from tests.support.judged_runs import judged


def run(**repetition):
    """A run of one launch, its first repetition changed like this."""
    results = m.run(
        {m.MOE_LOAD: {"output_throughput": [1000.0]}}, [m.THROUGHPUT]
    )
    (row,) = results.measurements
    first = msgspec.structs.replace(row.repetitions[0], **repetition)
    return msgspec.structs.replace(
        results,
        measurements=(
            msgspec.structs.replace(
                row, repetitions=(first, *row.repetitions[1:])
            ),
        ),
    )


def test_failed_requests_are_named():
    """With server, launch and load; repetitions that stalled are measured again, and not named."""
    failed = run(failed=3, invalid=("3 of 8 requests failed: HTTP 503",))

    assert [
        f"{m.MOE.key}, launch 1, closed-c32: 3 of 8 requests failed: HTTP 503"
    ] == notices.faults(failed)
    assert failed.launches
    assert [] == notices.faults(run(invalid=("all streams fell silent",)))


def test_a_death_is_named_by_what_was_seen():
    """Not by what was tried, which is the first line of its message."""
    results = run()
    death = Failure(
        "measured it", "killed by signal 9 (SIGKILL)", "look into its log"
    ).row()
    rows = tuple(
        msgspec.structs.replace(row, failure=death)
        for row in results.measurements
    )

    told = notices.faults(msgspec.structs.replace(results, measurements=rows))

    assert [
        f"{m.MOE.key}, launch 1, closed-c32: killed by signal 9 (SIGKILL)"
    ] == told


def test_equal_builds_are_named():
    """Base and candidate by the same Python: a check of the noise, or a mistake."""
    results = run()
    base = msgspec.structs.replace(
        results.servers[m.MOE.key],
        config=msgspec.structs.replace(m.MOE, build="base"),
    )
    pair = msgspec.structs.replace(
        results,
        servers=results.servers | {"base": base},
        base_builds={"vllm": "3.12"},
        mode="paired",
    )

    assert notices.builds(pair)[0].startswith(
        "vllm: base and candidate are the same 3.12"
    )
    assert 2 == len(
        notices.builds(
            msgspec.structs.replace(pair, base_builds={"vllm": "/base"})
        )
    )
    assert [] == notices.builds(results)


def test_pairs_of_a_screened_run_are_counted():
    """How many rows pairs decided, and how many they should have."""
    screen = Screen(outcome="REGRESSED", reference="recorded")
    row = Verdict(
        case=m.THROUGHPUT.id,
        metric="output_throughput",
        outcome="PASSED",
        gate="hard",
        screen=screen,
        summary="",
    )
    alone = msgspec.structs.replace(row, screen=None)
    results = msgspec.structs.replace(
        run(), mode="screened", suspects=("a", "b"), verdicts=(row, alone)
    )

    assert [
        "Pairs decided 1 of 2 judged cases, baselines the others; 1 suspect without "
        "valid pairs"
    ] == notices.screened(results)
    assert [] == notices.screened(run())


def test_repetitions_that_did_not_count_are_counted():
    """By server; those that the client's machine spoilt are told apart."""
    stall = ("all 8 streams fell silent at once for 900 ms",)
    late = ("the client fell behind: p99 lateness 9 ms",)
    rows = [
        m.repetition(0, 1.0),
        m.repetition(1, 1.0, stall),
        m.repetition(2, 1.0, late),
    ]
    run = m.bare_run(measurements=(m.measurement(0, *rows),))
    (line,) = notices.not_counted(run)

    assert "2 of 3 repetitions did not count" in line
    assert "1 because of the machine" in line
    steady = m.bare_run(measurements=(m.measurement(0, rows[0]),))
    assert [] == notices.not_counted(steady)


def test_rules_that_were_not_applied_are_told_where_they_matter():
    """A repetition that does not count, as of a server that died, needs none."""
    rules = ("preempted requests are not known",)
    dead = run(unchecked=rules, invalid=("2 of 4 requests failed",))

    (line,) = notices.unchecked(run(unchecked=rules))
    assert line.startswith("Not checked on ")
    assert line.endswith(rules[0])
    assert [] == notices.unchecked(dead)


def test_cases_that_were_not_compared_are_counted():
    """With the commonest reason of each outcome."""
    run = judged("PASSED", "INCOMPARABLE", "INCOMPARABLE")
    other = msgspec.structs.replace(run.verdicts[1], summary="versions")
    run = msgspec.structs.replace(run, verdicts=(*run.verdicts, other, other))
    (line,) = notices.not_compared(run)

    assert "4 cases not compared, INCOMPARABLE: " in line
    assert "1 other reason" in line


def test_a_run_without_any_baseline_says_that_it_compared_nothing():
    """As the gate decides: it fails a required one."""
    nothing = judged("NO_BASELINE", "NO_BASELINE")
    required = msgspec.structs.replace(nothing, gate="required")
    line = "Nothing was judged against a baseline: no judged case has one"

    assert [f"{line} (fails with --gate=required)"] == notices.lacking(nothing)
    assert [f"{line} (fails the run)"] == notices.lacking(required)
    assert [] == notices.lacking(judged("PASSED", "NO_BASELINE"))


def test_a_run_that_measured_nothing_was_not_cut_off():
    """It came to its end, such as on a machine where each test is skipped; a killed one did not."""
    results = run()
    nothing = msgspec.structs.replace(
        results,
        **{"complete": False, "launches": (), "measurements": (), "cases": ()},
        finished="2026-06-01T12:00:00+00:00",
    )
    killed = msgspec.structs.replace(nothing, finished=None)

    assert [] == notices.ended_early(nothing)
    assert "was cut off" in "\n".join(notices.ended_early(killed))


def test_data_sets_are_named():
    """Once for all loads that sent their prompts, and none that was not sent."""
    results = run()
    (name,) = {row.workload for row in results.measurements}
    chats = Frozen(path="p", source="chats, cut off", file="c", sha256="0")
    sent = msgspec.structs.replace(results.workloads[name], prompts=chats)
    unsent = msgspec.structs.replace(sent, name="other")
    results = msgspec.structs.replace(
        results, workloads={name: sent, "other": unsent}
    )

    assert [f"{name}: chats, cut off"] == notices.datasets(results)
    assert [] == notices.datasets(run())


def test_unused_baselines_are_one_line():
    """With the first names; all of them where they are asked for."""
    ids = [f"vllm-a-tp1/load-{number}/itl_median_ms" for number in range(5)]

    (line,) = notices.unused(ids, False)
    first, *names = notices.unused(ids, True)

    assert line.startswith("5 unused baselines of 1 server (")
    assert line.endswith(f"{', '.join(ids[:3])} and 2 more (-v lists them)")
    assert ids == [name.strip() for name in names]
    assert first.endswith(":")
    (single,) = notices.unused(ids[:1], False)
    assert single.endswith(f": {ids[0]}")
    assert [] == notices.unused([], True)
