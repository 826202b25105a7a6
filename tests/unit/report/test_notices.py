"""Notices: what a verdict does not say by itself."""

import msgspec

from perfgate.errors import Failure
from perfgate.report import notices
from perfgate.results.verdict import Screen, Verdict
from tests.support import builders as m


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
