"""Schedule: which launches a server needs first, and which after a verdict in doubt."""

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.config.config import Config
from perfgate.judge.baseline_store import Store
from perfgate.run.schedule import (
    External,
    Paired,
    Screened,
    Sequential,
    ab_order,
    schedule_of,
)
from tests.support import builders as m

KEY = m.MOE_CPU.key


def builds(launches):
    """A for a launch of the base build, B for one of the candidate."""
    return "".join("A" if launch.server.build else "B" for launch in launches)


@pytest.mark.parametrize(
    ("pairs", "expected"), [(1, "AB"), (3, "ABBAAB"), (4, "ABBAABBA")]
)
def test_order(pairs, expected):
    """Every second pair is turned round, so that a drift favours neither build."""
    assert expected == ab_order(pairs)


def test_one_launch_may_be_the_running_server():
    """A server that a test has in hand is measured as it is, and nothing is announced."""
    (launch,) = Sequential(launches=1).first(m.MOE_CPU)

    assert (KEY, 1, KEY, "", False) == (
        launch.server.key,
        launch.number,
        launch.task,
        launch.progress,
        launch.is_fresh,
    )


def test_further_launches_are_fresh():
    """Only the first of three may be the running server; each has a name that workers share."""
    launches = Sequential(launches=3).first(m.MOE_CPU)

    assert [False, True, True] == [launch.is_fresh for launch in launches]
    assert [KEY, f"{KEY}, launch 2", f"{KEY}, launch 3"] == [
        launch.task for launch in launches
    ]
    assert [1, 2, 3] == [launch.number for launch in launches]


def test_doubt_is_worth_two_launches_or_three_pairs():
    """Three pairs follow three pairs in the mirrored order."""
    assert "BB" == builds(Sequential().further(m.MOE_CPU, "closed"))
    assert "BAABBA" == builds(Paired().further(m.MOE_CPU, "closed"))


def test_pairs_are_launched_in_turn():
    """Each build counts its own launches; both are needed to judge a case."""
    launches = Paired(pairs=3).first(m.MOE_CPU)

    assert "ABBAAB" == builds(launches)
    assert [1, 1, 2, 2, 3, 3] == [launch.number for launch in launches]
    assert (m.THROUGHPUT, m.THROUGHPUT.base) == Paired().cases(m.THROUGHPUT)


def test_tasks_of_a_session_have_different_names():
    """Workers find each other's work by its name."""
    launches = [
        *Paired().first(m.MOE_CPU),
        *Paired().further(m.MOE_CPU, "a"),
        *Paired().further(m.MOE_CPU, "b"),
    ]

    assert len(launches) == len({launch.task for launch in launches})


def test_external_server_has_one_launch():
    """It is measured once, and says why a verdict in doubt stays in doubt."""
    assert 1 == len(External().first(m.MOE_CPU))
    assert () == External().further(m.MOE_CPU, "closed")
    assert "cannot be launched again" in External().no_escalation


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, Sequential(launches=1)),
        ({"launches": 3}, Sequential(launches=3)),
        ({"base_builds": {"vllm": "python"}}, Paired(pairs=3)),
        ({"base_builds": {"vllm": "python"}, "launches": 5}, Paired(pairs=5)),
        ({"base_builds": {"vllm": "python"}, "pairs": "one"}, Paired(pairs=1)),
        ({"pairs": "suspect"}, Sequential(launches=1)),
        (
            {"base_builds": {"vllm": "python"}, "pairs": "suspect"},
            Screened(Sequential(launches=1), frozenset({"vllm"})),
        ),
    ],
)
def test_base_builds_make_pairs(tmp_path, chosen, expected):
    """With base builds at least three pairs, else as many launches as were asked for."""
    settings = Config(run_dir=tmp_path, store=Store(tmp_path), **chosen)

    assert expected == schedule_of(settings)


def test_a_screened_server_is_launched_by_itself_and_its_candidate_in_pairs():
    """One launch, or two more; the candidate of a suspect row three pairs, or three more."""
    schedule = Screened(Sequential(launches=1), frozenset({"vllm"}))
    candidate = m.MOE_CPU.candidate

    assert [KEY] == [each.server.key for each in schedule.first(m.MOE_CPU)]
    assert [KEY, KEY] == [
        each.server.key for each in schedule.further(m.MOE_CPU, "closed")
    ]
    in_turn = schedule.first(candidate)
    assert [KEY + "-base", KEY + "-candidate", KEY + "-candidate"] == [
        each.server.key for each in in_turn[:3]
    ]
    assert 6 == len(in_turn) == len(schedule.further(candidate, "closed"))
    assert (m.THROUGHPUT,) == schedule.cases(m.THROUGHPUT)


def test_pairs_need_a_base_build_of_every_server():
    """A ratio of two engines has pairs if both have one."""
    other = msgspec.structs.replace(m.DENSE_LOAD.server, engine="sglang")
    load = msgspec.structs.replace(m.DENSE_LOAD, server=other)
    ratio = msgspec.structs.replace(m.RATIO, denominator=load)

    schedule = Screened(Sequential(), frozenset({"vllm"}))

    assert schedule.has_pairs(m.RATIO)
    assert not schedule.has_pairs(ratio)


def test_both_builds_of_a_duel_are_measured():
    """In every mode, and never by pairs of launches: a duel has both builds already."""
    held = msgspec.structs.replace(m.MOE_CPU, held=True)
    case = msgspec.structs.replace(
        m.THROUGHPUT, metric="batch_cpu_ms", numerator=Load(server=held)
    )
    screened = Screened(Sequential(), frozenset({"vllm"}))

    for schedule in (Sequential(), Paired(), screened):
        assert (case.candidate, case.base) == schedule.cases(case)
    assert not screened.has_pairs(case)
