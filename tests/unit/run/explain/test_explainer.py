"""Explainer: which sessions explain what is red, and which diagnoses are left."""

from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.config.config import Config
from perfgate.errors import Failure
from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.results.profile import Unexplained
from perfgate.results.schema import load
from perfgate.results.verdict import Outcome
from perfgate.run.explain import explainer as explaining
from perfgate.run.explain.explainer import Explainer, is_wanted
from tests.support import builders as m

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("explain", "mode", "more", "expected"),
    [
        ("pairs", "paired", {}, True),
        ("pairs", "screened", {}, True),
        ("pairs", "sequential", {}, False),
        ("red", "sequential", {}, True),
        ("no", "paired", {}, False),
        ("red", "paired", {"worker": "gw0"}, False),
        ("red", "sequential", {"external_urls": ("vllm=http://h",)}, False),
    ],
)
def test_who_explains(tmp_path, explain, mode, more, expected):
    """Pairs by themselves, others where it is asked; nobody who knows or launches less."""
    settings = Config(
        run_dir=tmp_path, store=Store(tmp_path), explain=explain, **more
    )
    run = msgspec.structs.replace(m.bare_run(), mode=mode)

    assert expected == is_wanted(settings, run)


@pytest.fixture(scope="module")
def red():
    """A stored run with one diagnosis, judged again."""
    run = load(ROOT / "docs" / "runs" / "h200x1-planted" / "moe" / "01")
    return judged_again(run, Store(ROOT / "baselines"))


@pytest.fixture
def explainer(tmp_path, monkeypatch):
    """An explainer whose launches all fail."""

    def failing(*_):
        raise Failure(tried="launching", seen="no GPU", remedy="add one")

    monkeypatch.setattr(explaining.profiling, "profiled", failing)
    settings = Config(run_dir=tmp_path, store=Store(ROOT / "baselines"))
    return Explainer(settings, None, m.hardware("cpu"), None)


def test_a_failed_launch_is_a_reason(explainer, red):
    """The verdicts stand, and the session goes on."""
    (key,) = red.diagnoses[0].servers

    assert [Unexplained(server=key, reason="no GPU")] == list(
        explainer.explain(red)
    )


def test_what_is_no_loss_is_left(explainer, red):
    """As a choice that changed where nothing is red."""
    trade = msgspec.structs.replace(red.diagnoses[0], is_loss=False)
    run = msgspec.structs.replace(red, diagnoses=(trade,))

    assert [] == list(explainer.explain(run))


@pytest.mark.parametrize("metric", ["kv_cache_tokens", "ready_s"])
def test_what_takes_no_load_longer_is_left(explainer, red, metric):
    """No kernel explains room for the KV cache, or a start; the loads have passed."""
    case = next(row for row in red.cases if not row.is_ratio)
    launch = msgspec.structs.replace(
        case, numerator=Load(server=case.numerator.server), metric=metric
    )
    verdicts = [
        msgspec.structs.replace(row, outcome=Outcome.PASSED)
        for row in red.verdicts
    ]
    lost = msgspec.structs.replace(
        red.verdicts[0], case=launch.id, outcome=Outcome.REGRESSED, gate="hard"
    )
    (diagnosis,) = red.diagnoses
    diagnosis = msgspec.structs.replace(
        diagnosis, servers=(case.numerator.server.key,)
    )
    run = msgspec.structs.replace(
        red,
        cases=(*red.cases, launch),
        verdicts=(*verdicts, lost),
        group_verdicts=(),
        diagnoses=(diagnosis,),
    )

    assert [] == list(explainer.explain(run))


def test_a_choice_that_is_the_cause_is_put_back(explainer, red, monkeypatch):
    """By the engine's own argument, after the profile."""
    launches = []
    for launch in red.launches:
        choices = launch.effective | {"moe_backend": "FLASHINFER_CUTLASS"}
        launches.append(msgspec.structs.replace(launch, effective=choices))
    run = msgspec.structs.replace(red, launches=tuple(launches))
    run = judged_again(run, Store(ROOT / "baselines"))
    asked = []
    monkeypatch.setattr(
        explaining.counter_proof,
        "proof",
        lambda launcher, builds, subject, back: asked.append(back) or back,
    )

    _, proof = explainer.explain(run)

    assert [proof] == asked
    assert "--moe-backend triton" == proof.argument
