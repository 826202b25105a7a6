"""Judge rules: each decides as it says, and no launch is judged against itself."""

from __future__ import annotations

import importlib.util
import math

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks import judge_rules
from benchmarks.judge_rules import (
    FAMILIES,
    SITUATIONS,
    Situation,
    Trial,
    Trials,
    compare,
    gate_decision,
    gate_state,
    mann_whitney,
    markdown,
    prior_of,
    pytest_benchmark,
    t_test,
    threshold,
    welch,
    worsened,
)
from benchmarks.recorded_launches import Row
from perfgate.history.series import change_points
from perfgate.judge.noise_table import GroupNoise, Spread
from perfgate.judge.verdict import Outcome
from perfgate.results import schema as rundata
from tests.support import builders as m

FACTORS = (0.998, 1.002, 0.999, 1.001, 1.0, 1.0)
QUIET = GroupNoise(
    launches=Spread(cv=0.003, degrees_of_freedom=20.0), series=10
)
NOISY = GroupNoise(launches=Spread(cv=0.05, degrees_of_freedom=20.0), series=10)


def row(value, day=1, machine="gpu-a", metric="output_throughput"):
    """A launch of that day, with three repetitions that vary by 0.1 %."""
    return Row(
        hardware="h200x1",
        machine=machine,
        run=f"202606{day:02}-{machine}",
        launch=0,
        server="vllm-llama",
        workload="closed-c32",
        arrivals="closed",
        metric=metric,
        configuration="c",
        value=value,
        repetitions=(0.999 * value, value, 1.001 * value),
        started_unix_s=float(day),
    )


def launches(machine="gpu-a", metric="output_throughput", level=1000.0):
    """Six launches of one machine that vary as an H200's do."""
    rows = []
    for day, factor in enumerate(FACTORS, 1):
        rows.append(row(level * factor, day, machine, metric))
    return rows


def trial(loss, recorded=None, now=1, group=QUIET):
    """Launches with that loss against six, or those recorded."""
    current = []
    for day, value in enumerate((1000.0, 999.0, 1001.0)[:now], 20):
        current.append(worsened(row(value, day), loss))
    return Trial(recorded or launches(), current, group)


def test_a_loss_makes_it_worse_whatever_is_better():
    """Throughput falls, latency rises, in the value and in each repetition."""
    throughput = worsened(row(100.0), 0.1)
    itl = worsened(row(100.0, metric="itl_median_ms"), 0.1)

    assert (90.0, 110.0) == pytest.approx((throughput.value, itl.value))
    assert pytest.approx(0.9 * 100.1) == throughput.repetitions[2]
    assert pytest.approx(1.1 * 100.1) == itl.repetitions[2]


@pytest.mark.parametrize(
    ("loss", "group", "now", "state"),
    [
        (0.0, QUIET, 1, "passed"),
        (0.10, QUIET, 1, "red"),
        (0.10, QUIET, 3, "red"),
        (0.012, QUIET, 1, "asks"),
        (0.012, QUIET, 3, "passed"),
        (-0.10, QUIET, 1, "passed"),
        (0.0, NOISY, 1, "not excluded"),
    ],
)
def test_states_of_the_gate(loss, group, now, state):
    """Each state is what the gate itself decides; it may ask for more launches once."""
    recorded = launches()
    if group is NOISY:
        recorded = recorded[:1]

    assert state == gate_state(trial(loss, recorded, now, group))


def test_the_gate_judges_the_recorded_launches():
    """The verdict rests on the trial's launches: their mean, and what is known of noise."""
    decision = gate_decision(trial(0.0), 1)

    assert Outcome.PASSED is decision.outcome
    assert pytest.approx(1000.0, rel=1e-4) == decision.baseline
    assert 1 == decision.launches


@pytest.mark.parametrize(("loss", "state"), [(0.02, "passed"), (0.04, "red")])
def test_threshold(loss, state):
    """Red beyond the limit."""
    assert state == threshold(0.03, trial(loss))


@pytest.mark.parametrize("rule", [mann_whitney, t_test, pytest_benchmark])
def test_rules_of_one_launch(rule):
    """They pass what is unchanged, and see a tenth lost, up or down."""
    latency = launches(metric="itl_median_ms")
    slow = worsened(row(1000.0, 20, metric="itl_median_ms"), 0.1)

    assert "passed" == rule(trial(0.0))
    assert "red" == rule(trial(0.1))
    assert "red" == rule(Trial(latency, [slow]))


def test_welch_needs_three_launches():
    """It answers nothing on one launch, or against one."""
    assert "red" == welch(trial(0.1, now=3))
    assert "passed" == welch(trial(0.0, now=3))
    assert None is welch(trial(0.1, now=1))
    assert None is welch(trial(0.1, launches()[:1], 3))
    assert None is t_test(trial(0.1, launches()[:1]))


def test_rules_judge_against_the_own_machine():
    """Where the machine has launches of its own, a slower neighbour is no reference."""
    recorded = launches() + launches("gpu-b", level=900.0)

    assert "passed" == threshold(0.03, trial(0.02, recorded))
    assert 6 == len(trial(0.0, recorded).own)
    stranger = Trial(recorded, [row(1000.0, 20, "gpu-c")])
    assert 12 == len(stranger.own)


@pytest.mark.skipif(
    importlib.util.find_spec("otava") is None, reason="an optional extra"
)
def test_otava_finds_a_step():
    """A change point counts where it is for the worse and at what was launched now."""
    recorded = [*launches(), *launches()]

    assert [] == change_points([one.value for one in recorded])
    assert "red" == judge_rules.otava(trial(0.1, recorded, 3))
    assert "passed" == judge_rules.otava(trial(-0.1, recorded, 3))


def test_otava_is_left_out_where_it_is_not_installed(monkeypatch):
    """Its row is there where it can be imported, and only there."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    absent = [rule.name for rule in judge_rules.rules()]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: "there")
    present = [rule.name for rule in judge_rules.rules()]

    assert ["Otava, as `perfgate history`"] == present[len(absent) :]


def places(kind, now, rows, fewest):
    """The places of a situation of that kind."""
    situation = Situation("x", kind, now, fewest)
    return list(Trials(rows).places(situation))


def test_a_launch_is_left_out_of_its_own_baseline():
    """On a known machine the store has the others of the machine, and other machines'."""
    rows = launches() + launches("gpu-b")[:2]

    found = places("known", 1, rows, 2)

    assert ["gpu-a"] == [place.machine for place in found]
    assert 6 == len(found[0].trials)
    for one in found[0].trials:
        assert one.current[0] not in one.recorded
        assert 7 == len(one.recorded)


def test_one_recorded_launch_is_all_there_is():
    """The store then has one launch of that machine alone."""
    found = places("one", 1, launches()[:3] + launches("gpu-b")[:1], 1)

    assert ["gpu-a"] == [place.machine for place in found]
    sizes = {len(one.recorded) for one in found[0].trials}
    assert ({1}, 6) == (sizes, len(found[0].trials))


def test_an_unknown_machine_has_no_launch():
    """The store has only what other machines did."""
    found = places("unknown", 1, launches() + launches("gpu-b")[:1], 3)

    assert ["gpu-b"] == [place.machine for place in found]
    machines = {one.machine for one in found[0].trials[0].recorded}
    assert {"gpu-a"} == machines


def test_of_many_threes_the_same_are_drawn():
    """A seed draws the same ones, and no launch is drawn twice for one trial."""
    first = places("known", 3, launches(), 2)[0].trials
    again = places("known", 3, launches(), 2)[0].trials

    assert first == again
    assert judge_rules.MOST_TRIPLES == len(first)
    assert {3} == {len({row.run for row in one.current}) for one in first}


def wild_machine(kind):
    """Noise of the first trial on a machine that varies by a tenth, and all other rows."""
    others = []
    for name, level in (("gpu-b", 990.0), ("gpu-c", 1005.0), ("gpu-d", 1e3)):
        others += launches(name, level=level)
    wild = [row(1000.0 * (1 + day / 10), day) for day in range(1, 7)]
    trials = places(kind, 1, wild + others, 1)
    own = next(place for place in trials if place.machine == "gpu-a")
    return own.trials[0], wild, others


def known_noise(rows):
    """What a store of these rows says of their metric."""
    return prior_of(rows).find("gpu", "output_throughput", "closed")


@pytest.mark.parametrize("kind", ["one", "unknown"])
def test_noise_of_a_new_machine_is_that_of_others(kind):
    """The prior holds nothing of a machine that the store hardly knows."""
    found, _, others = wild_machine(kind)

    assert known_noise(others) == found.group
    assert found.group is not None
    assert found.group.launches.cv < 0.01


def test_noise_of_a_known_machine_leaves_out_what_is_judged():
    """The prior holds every launch but the one that is judged."""
    found, wild, others = wild_machine("known")

    assert found.current == (wild[0],)
    assert known_noise(wild[1:] + others) == found.group


def test_metrics_that_say_nothing_are_left_out():
    """At a rate nothing is judged here, of a burst the throughput alone."""
    burst = msgspec.structs.replace(row(1.0), arrivals="burst")
    latency = msgspec.structs.replace(burst, metric="itl_median_ms")
    rate = msgspec.structs.replace(row(1.0), arrivals="open")

    assert [burst] == judge_rules.judged_rows([burst, latency, rate])


def test_each_place_weighs_the_same():
    """A machine with many launches counts as much as one with few."""
    shares = judge_rules._shares([["red"], ["passed"] * 9 + ["red"]])

    assert pytest.approx({"red": 0.55, "passed": 0.45}) == shares


def test_the_table():
    """Each rule has a line in each situation; of the gate what is not red is told apart."""
    rows = []
    for name in ("gpu-a", "gpu-b", "gpu-c", "gpu-d"):
        rows += launches(name)
    lines = compare(rows, situations=SITUATIONS[:1], losses=(0.0, 0.1))
    text = markdown(lines)

    gate = lines[0]
    assert ("perfgate", 4, 24) == (gate.rule, gate.places, gate.gates)
    assert {"passed": 1.0} == pytest.approx(gate.cells[0].shares)
    assert {"red": 1.0} == pytest.approx(gate.cells[1].shares)
    assert {"all but TTFT", "throughput and E2EL"} == {
        line.family for line in lines
    }
    assert "| perfgate | 0 | 100 |" in text
    assert "| perfgate: passed | 100 | 0 |" in text
    assert "### All but TTFT" in text


def test_the_command(tmp_path):
    """It reads runs, prints one table, and writes the shares."""
    for day, factor in enumerate(FACTORS, 1):
        results = m.run(
            {m.MOE_LOAD: {"output_throughput": [1000.0 * factor]}},
            [m.THROUGHPUT],
            run_id=f"202606{day:02}-120000-1",
        )
        rundata.save(results, tmp_path / "runs" / str(day))
    written = tmp_path / "rules.json"

    done = CliRunner().invoke(
        judge_rules.main, [str(tmp_path / "runs"), "--json", str(written)]
    )

    assert 0 == done.exit_code
    assert list(FAMILIES)[:1] == ["all but TTFT"]
    assert 1 == done.output.count("### ")
    shares = msgspec.json.decode(written.read_bytes())[0]["cells"][0]["shares"]
    assert math.isclose(1.0, sum(shares.values()))


def test_brief_tables_have_a_row_for_each_store_and_rule():
    """Each store is named once; of the families the gate alone is shown."""
    lines = []
    for family in ("all but TTFT", "TTFT"):
        for situation in judge_rules.SITUATIONS:
            for rule in ("perfgate", "threshold 5 %"):
                cells = []
                for loss in judge_rules.LOSSES:
                    shares = {"red": loss * 10, "passed": 1 - loss * 10}
                    cells.append(judge_rules.Cell(loss=loss, shares=shares))
                lines.append(
                    judge_rules.Line(
                        family=family,
                        situation=situation.name,
                        rule=rule,
                        places=1,
                        gates=1,
                        cells=tuple(cells),
                    )
                )

    text = judge_rules.brief(lines)

    first = "| other machines alone | gate, a row alone | 0 | 20 | 30 | 50 | 70 | 100 |"
    assert first in text
    assert "|   | threshold 5 % | 0 | 20 | 30 | 50 | 70 | 100 |" in text
    assert "| TTFT | this machine | 0 | 20 | 30 | 50 | 70 | 100 | 50 |" in text
    assert 1 == text.count("| one launch of this machine |")
