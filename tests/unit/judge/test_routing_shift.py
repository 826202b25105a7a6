"""Routing shift: a changed router vs noise, with the layer; a collapsed router."""

import datetime

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.cases import Case, Load
from perfgate.judge.baseline_schema import (
    BaselineError,
    Known,
    read_recorded,
    to_text,
)
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge, judge_case
from perfgate.judge.verdict import Outcome
from perfgate.load.workload import Workload
from perfgate.models.routing import LayerShares, RequestRouting, Routing
from perfgate.models.routing_stats import values
from perfgate.report.verdict_text import render
from perfgate.results.samples import Sample
from perfgate.results.schema import save
from tests.support import builders as m

ASKED = Workload(
    name="routing",
    num_prompts=20,
    max_concurrency=1,
    repetitions=1,
    asks_routing=True,
)
LOAD = Load(server=m.MOE_CPU, workload=ASKED)
SHARES = Case(experiment="E8", metric="routing_shares", numerator=LOAD)
TOP2 = Case(experiment="E8", metric="routing_top2_share", numerator=LOAD)
EVEN, SKEWED, COLLAPSED = (25, 25, 25, 25), (45, 15, 20, 20), (48, 46, 4, 2)


def run(*layers, run_id="20260601-120000-1", wobble=2):
    """A complete run whose 20 requests have these counts in each layer, give or take."""
    requests = tuple(
        RequestRouting(
            tokens=50,
            counts=tuple(
                tuple(
                    n + (wobble if (number + place) % 2 else -wobble)
                    for place, n in enumerate(row)
                )
                for row in layers
            ),
            repeats_first=(10,) * len(layers),
            repeats_any=(20,) * len(layers),
        )
        for number in range(20)
    )
    routing = Routing(top_k=2, ranks=2, requests=requests)
    figures = values(routing)
    results = m.run(
        {
            LOAD: {
                name: [figures[name]]
                for name in ("routing_shares", "routing_top2_share")
            }
        },
        [SHARES, TOP2],
        run_id=run_id,
        machine=m.hardware("cpu"),
    )
    rows = tuple(
        msgspec.structs.replace(row, routing=routing)
        for row in results.measurements
    )
    return msgspec.structs.replace(results, measurements=rows)


@pytest.fixture
def store(tmp_path):
    """Baselines in which an even and a skewed layer are recorded."""
    found = Store(tmp_path / "baselines")
    take(found, tmp_path, run(EVEN, SKEWED))
    return found


def take(store, folder, results, **choice):
    """Take a run over."""
    save(results, folder / results.run_id)
    return accept([folder / results.run_id], store, Choice(**choice), env={})


def test_same_routing_passes(store):
    """The same counts are no distance at all."""
    verdict = judge_case(
        run(EVEN, SKEWED, run_id="20260602-120000-1"), SHARES, store
    )

    assert (Outcome.PASSED, 0.0, 0) == (
        verdict.outcome,
        verdict.worse_by,
        verdict.needs_launches,
    )


def test_other_routing_is_red_and_names_the_layer(store):
    """Layer 0 has become skewed: REGRESSED, hard, with layer, expert and both shares."""
    verdict = judge_case(
        run(SKEWED, SKEWED, run_id="20260602-120000-1"), SHARES, store
    )

    assert (Outcome.REGRESSED, "hard", 0) == (
        verdict.outcome,
        verdict.gate,
        verdict.needs_launches,
    )
    # |45 - 25| + |15 - 25| + |20 - 25| x 2, halved
    assert 0.20 == pytest.approx(verdict.worse_by, abs=0.001)
    for text in (
        "layer 0: 20.0 % of the choices",
        "Expert 0 of that layer lost 0.0 % and gained 20.0 %",
        "its share is 45.0 %, 25.0 % in the baseline",
        "20 requests compared one by one",
        "--reason",
    ):
        assert text in render(verdict)


def test_more_even_is_another_routing_too(store):
    """It may be better, but it is not what was recorded."""
    assert (
        Outcome.REGRESSED
        == judge_case(
            run(EVEN, EVEN, run_id="20260602-120000-1"), SHARES, store
        ).outcome
    )


@pytest.mark.parametrize("case", [SHARES, TOP2])
def test_collapse_needs_no_baseline(tmp_path, case):
    """Two experts with 94 % are a regression where nothing was recorded, and the layer is named."""
    verdict = judge_case(run(EVEN, COLLAPSED), case, Store(tmp_path))

    assert (Outcome.REGRESSED, "hard") == (verdict.outcome, verdict.gate)
    assert "layer 1: experts 0 and 1 take 94.0 %" in render(verdict)


def test_no_more_launches_for_where_tokens_go(store, tmp_path):
    """The same prompts take the same experts on each launch: one launch decides a near loss."""
    verdict = judge_case(
        run(EVEN, (48, 28, 12, 12), run_id="20260602-120000-1"), TOP2, store
    )

    assert (Outcome.REGRESSED, "hard", 0) == (
        verdict.outcome,
        verdict.gate,
        verdict.needs_launches,
    )


def test_nothing_recorded_is_said(tmp_path):
    """Without a collapse and a baseline there is nothing to judge by."""
    assert (
        Outcome.NO_BASELINE
        == judge_case(run(EVEN), SHARES, Store(tmp_path)).outcome
    )


def test_other_shape_is_incomparable(store):
    """A model of more layers is not compared."""
    verdict = judge_case(
        run(EVEN, SKEWED, EVEN, run_id="20260602-120000-1"), SHARES, store
    )

    assert Outcome.INCOMPARABLE == verdict.outcome


def test_baseline_without_shares_is_incomparable():
    """A recorded number alone says nothing of the layers."""
    seen = m.seen(SHARES, 0.1)

    assert (
        Outcome.INCOMPARABLE
        == judge(SHARES, seen, m.recorded(SHARES, [0.1])).outcome
    )


def test_shares_are_in_the_file(store):
    """Counts by layer, once, with the metric that they judge; the file survives a round trip."""
    file = store.file(store.path(SHARES, "cpu-any"))

    (point,) = file.metrics["routing_shares"].launches
    assert ((500, 500, 500, 500), (900, 300, 400, 400)) == point.shares.counts
    assert file.metrics["routing_top2_share"].launches[0].shares is None
    path = store.path(SHARES, "cpu-any")
    assert path.read_text() == to_text(read_recorded(path))


@pytest.mark.parametrize(
    "shares",
    [
        LayerShares(counts=((1, 2), (1,)), noise=(0.1, 0.1)),
        LayerShares(counts=((1, 2),), noise=()),
        LayerShares(counts=((0, 0),), noise=(0.1,)),
        LayerShares(counts=(), noise=()),
    ],
    ids=["ragged", "no-noise", "no-choices", "no-layers"],
)
def test_shares_that_cannot_be_are_refused(store, shares):
    """The field is named."""
    path = store.path(SHARES, "cpu-any")
    file = store.file(path)
    point = Sample(run="r", launch=0, value=0.1, shares=shares)
    broken = msgspec.structs.replace(
        file.metrics["routing_shares"], launches=(point,)
    )
    path.write_text(
        to_text(
            msgspec.structs.replace(file, metrics={"routing_shares": broken})
        )
    )

    with pytest.raises(
        BaselineError, match=r"metrics\.routing_shares\.launches\[0\]\.shares"
    ):
        read_recorded(path)


def test_another_run_joins(store, tmp_path):
    """Launches that pass are added, and count together."""
    take(store, tmp_path, run(EVEN, SKEWED, run_id="20260602-120000-1"))

    assert 2 == len(
        store.file(store.path(SHARES, "cpu-any"))
        .metrics["routing_shares"]
        .launches
    )


def test_intended_change_is_accepted_with_a_reason(store, tmp_path):
    """The new routing replaces the old one; a less even one needs a reason."""
    changed = run(SKEWED, SKEWED, run_id="20260602-120000-1")
    worse = run((70, 10, 10, 10), SKEWED, run_id="20260603-120000-1")

    take(store, tmp_path, changed, reason="a fine-tune")
    assert Outcome.PASSED == judge_case(changed, SHARES, store).outcome
    with pytest.raises(RecordingRefused, match="reason"):
        take(store, tmp_path, worse)


def test_known_change_passes_until_its_day(store):
    """As any known regression; after the day it fails the run."""
    changed = run(SKEWED, SKEWED, run_id="20260602-120000-1")
    path = store.path(SHARES, "cpu-any")
    file = store.file(path)
    known = Known(until="2026-06-30", reason="a fine-tune", worse_by=0.2)
    metric = msgspec.structs.replace(
        file.metrics["routing_shares"], known=known
    )
    store.write(
        path,
        msgspec.structs.replace(
            file, metrics=file.metrics | {"routing_shares": metric}
        ),
    )

    verdicts = [
        judge_case(changed, SHARES, store, datetime.date(2026, month, 15))
        for month in (6, 7)
    ]
    smaller = msgspec.structs.replace(known, worse_by=0.03)
    metric = msgspec.structs.replace(metric, known=smaller)
    store.write(
        path,
        msgspec.structs.replace(
            file, metrics=file.metrics | {"routing_shares": metric}
        ),
    )
    day = datetime.date(2026, 6, 15)

    assert [Outcome.PASSED, Outcome.REGRESSED] == [
        row.outcome for row in verdicts
    ]
    shift = "; a shift of 20.0 % "
    assert [True, False] == [row.has_accepted_loss for row in verdicts]
    assert verdicts[0].summary.endswith(f"{shift}is accepted until 2026-06-30")
    assert verdicts[1].summary.endswith(
        f"{shift}was accepted until 2026-06-30: that day has passed"
    )
    # 20 % are more than the 3 % that were accepted, and none are less.
    assert Outcome.REGRESSED == judge_case(changed, SHARES, store, day).outcome
    gone = judge_case(
        run(EVEN, SKEWED, run_id="20260603-120000-1"), SHARES, store, day
    )
    assert Outcome.INVALID == gone.outcome
    assert "the accepted shift is gone" in render(gone)
