"""Routing shift, request by request: what is red, what passes, what a baseline keeps."""

import json

import msgspec
import pytest

from benchmarks.moved_choices import moved, reversed_experts
from perfgate import formatting
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.cases import Case, Load
from perfgate.judge.baseline_schema import BaselineError, read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_case
from perfgate.judge.verdict import Outcome
from perfgate.load.workload import Workload
from perfgate.models.routing_stats import values
from perfgate.report.verdict_text import render
from perfgate.results.schema import save
from tests.support import builders as m
from tests.support.routings import varied

ASKED = Workload(
    name="routing",
    num_prompts=64,
    max_concurrency=1,
    repetitions=1,
    asks_routing=True,
)
LOAD = Load(server=m.MOE_CPU, workload=ASKED)
CASE = Case(experiment="E8", metric="routing_shares", numerator=LOAD)
PLAIN = varied()
LABEL = "cpu-any"


def run(*launches, day=2):
    """A complete run with these launches of the server."""
    figures = [values(routing)["routing_shares"] for routing in launches]
    results = m.run(
        {LOAD: {"routing_shares": figures}},
        [CASE],
        run_id=f"202606{day:02}-120000-1",
        machine=m.hardware("cpu"),
    )
    rows = []
    for row in results.measurements:
        routing = launches[row.launch]
        rows.append(msgspec.structs.replace(row, routing=routing))
    return msgspec.structs.replace(results, measurements=tuple(rows))


def take(store, folder, results, **choice):
    """Make a run the baseline."""
    save(results, folder / results.run_id)
    return accept([folder / results.run_id], store, Choice(**choice), env={})


def recorded(tmp_path, *launches):
    """A store in which these launches of one run are recorded."""
    store = Store(tmp_path / "baselines")
    take(store, tmp_path, run(*launches, day=1))
    return store


def launches_of(store):
    """What the baseline stores."""
    file = store.file(store.path(CASE, LABEL))
    return file.metrics["routing_shares"].launches


def edit_requests(store, **fields):
    """The baseline file with other counts by request; None removes them."""
    path = store.path(CASE, LABEL)
    tree = json.loads(path.read_text())
    for launch in tree["metrics"]["routing_shares"]["launches"]:
        if fields:
            launch["shares"]["requests"].update(fields)
        else:
            del launch["shares"]["requests"]
    path.write_text(json.dumps(tree))
    return Store(path.parents[2])


def test_unchanged_routing_passes_with_no_distance(tmp_path):
    """The same ways as recorded: PASSED, 0.00 %, threshold 1 %."""
    store = recorded(tmp_path, PLAIN, PLAIN)

    verdict = judge_case(run(PLAIN), CASE, store)

    assert (Outcome.PASSED, 0.0) == (verdict.outcome, verdict.worse_by)
    assert pytest.approx(0.01) == verdict.threshold
    assert "those of the baseline (0.00 %), threshold 1.0 %" in render(verdict)


def test_reversed_experts_are_red_and_named(tmp_path):
    """A wrong index map of one layer: REGRESSED, with the layer, an expert and a remedy."""
    store = recorded(tmp_path, PLAIN, PLAIN)

    verdict = judge_case(run(reversed_experts(PLAIN, 1)), CASE, store)

    assert (Outcome.REGRESSED, "hard") == (verdict.outcome, verdict.gate)
    text = render(verdict)
    assert "layer 1: " in text
    assert "Expert " in text
    assert "request by request" in text
    assert "perfgate accept" in text


@pytest.mark.parametrize("recorded_launches", [1, 2])
@pytest.mark.parametrize(
    ("share", "outcome"), [(0.005, Outcome.PASSED), (0.02, Outcome.REGRESSED)]
)
def test_two_percent_of_one_layer(tmp_path, recorded_launches, share, outcome):
    """2 % of choices at random on other experts are red, 0.5 % pass."""
    store = recorded(tmp_path, *[PLAIN] * recorded_launches)

    verdict = judge_case(run(moved(PLAIN, 0, share)), CASE, store)

    assert outcome is verdict.outcome


def test_a_single_recorded_launch_is_said(tmp_path):
    """The repeat distance is assumed, and the message says how to learn it."""
    store = recorded(tmp_path, PLAIN)

    text = render(judge_case(run(PLAIN), CASE, store))

    assert "assumed repeat distance of 0.50 %" in text
    assert "--launches 2" in text


def test_repeat_distance_widens_the_threshold(tmp_path):
    """Two recorded launches that differ by 3 %: the threshold is 4 %."""
    flips = moved(PLAIN, 0, 0.0343, target=0)
    store = recorded(tmp_path, PLAIN, flips)

    verdict = judge_case(run(moved(PLAIN, 0, 0.03, seed=1)), CASE, store)

    assert Outcome.PASSED is verdict.outcome
    assert pytest.approx(0.04, abs=0.002) == verdict.threshold
    repeat = formatting.percent(verdict.threshold - 0.01)
    assert f"between two recorded launches, {repeat}" in render(verdict)


def test_old_baseline_is_judged_by_shares_and_hints(tmp_path):
    """Without counts by request the old rule holds, and the message says how to record anew."""
    store = edit_requests(recorded(tmp_path, PLAIN))

    verdict = judge_case(run(moved(PLAIN, 0, 0.02)), CASE, store)

    assert Outcome.PASSED is verdict.outcome
    assert verdict.threshold > 0.05
    text = render(verdict)
    assert "no counts by request" in text
    assert "every request" not in render(judge_case(run(PLAIN), CASE, store))
    assert "--only '*/routing_shares'" in text
    take(store, tmp_path, run(PLAIN))
    anew = judge_case(run(moved(PLAIN, 0, 0.02), day=3), CASE, store)
    assert Outcome.REGRESSED is anew.outcome


def test_other_number_of_requests_is_incomparable(tmp_path):
    """Requests that have no counterpart are not compared."""
    store = recorded(tmp_path, PLAIN)

    verdict = judge_case(run(varied(requests=63)), CASE, store)

    assert Outcome.INCOMPARABLE is verdict.outcome
    assert "layers, experts and requests" in render(verdict)


def test_damaged_text_names_file_and_field(tmp_path):
    """The gate does not judge by half a baseline."""
    store = recorded(tmp_path, PLAIN)
    edit_requests(store, encoded="AAAA")
    path = store.path(CASE, LABEL)

    with pytest.raises(BaselineError) as caught:
        read_recorded(path)

    assert str(path) in caught.value.tried
    field = "metrics.routing_shares.launches[0].shares.requests"
    assert field in caught.value.seen
    assert "perfgate accept" in caught.value.remedy


def test_first_two_launches_are_the_reference(tmp_path):
    """Launches that join later neither move the reference nor widen the threshold."""
    store = recorded(tmp_path, PLAIN)
    for day in (2, 3):
        take(store, tmp_path, run(moved(PLAIN, 0, 0.01), day=day))

    stored = [launch.shares.requests for launch in launches_of(store)]
    verdict = judge_case(run(moved(PLAIN, 0, 0.03), day=4), CASE, store)

    assert [True, True, False] == [text is not None for text in stored]
    assert Outcome.REGRESSED is verdict.outcome


def test_a_shift_is_accepted_only_with_a_reason(tmp_path):
    """Reversed experts have the same evenness: the routing itself asks for the reason."""
    store = recorded(tmp_path, PLAIN, PLAIN)
    changed = run(reversed_experts(PLAIN, 1))

    with pytest.raises(RecordingRefused, match="other experts"):
        take(store, tmp_path, changed)
    take(store, tmp_path, changed, reason="a new index map")

    assert 1 == len(launches_of(store))
    assert Outcome.PASSED is judge_case(changed, CASE, store).outcome
