"""Causes of the stored runs: right in each injected one that is red, none in unchanged ones.

The bounds of the rules were set by reasoning and not fitted: each may be a quarter
larger or smaller, one at a time, and every stored run keeps its cause.
"""

from pathlib import Path

import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.causes import choice_rules, loss_rules, profiled, symptoms
from perfgate.judge.run_status import judged_again
from perfgate.results.schema import load

ROOT = Path(__file__).resolve().parents[3]
RUNS = ROOT / "docs" / "runs"
INJECTED = {
    "h200x1-planted/chunk/01": "prefill-chunk",
    "h200x1-planted/prefill/01": "prefill-chunk",
    "h200x1-planted/delay/01": "per-token",
    "h200x1-planted/delay/02": "per-token",
    "h200x1-planted/eager/01": "graphs",
    # No rule was written for these two when they were run: both were "unknown".
    "h200x1-planted/few-graphs/01": "graphs",
    # Graphs for prefills are gone: 20 % of a steady load, whose launches vary by 2 %.
    "h200x1-planted/no-compile/01": "graphs",
    # Its log was read before the choice of a scheduler was.
    "h200x1-planted/no-async/01": "unknown",
    "h200x1-planted/saturation/01": "batch-cap",
    "h200x1-planted/answers/01": "answers",
    "h200x1-planted/moe/01": "expert-path",
    "h200x1-planted/moe-explained/01": "expert-path",
    "h200x1-planted/seqs/01": "batch-cap",
    "h200x2-planted/no-custom-all-reduce": "communication",
    # Their profiles tell what the rows alone do not.
    "h200x2-planted/nccl-shm/01": "communication",
    "h200x2-planted/late-rank/01": "late-rank",
    "h200x2-planted/few-graphs/01": "graphs",
    # No rule was written for these two when they were run. The first was "unknown", and
    # of the second a late rank was named, of decode steps that the profiler made longer.
    "h200x2-planted/launch-blocking/01": "launches",
    "h200x2-planted/nccl-one-channel/01": "communication",
    # Two builds of a held engine. No rule has a name for a delay of each step.
    "h200x1-held/chunk/01": "prefill-chunk",
    "h200x1-held/delay/01": "unknown",
    # vLLM 0.33 against 0.26: one load lost 6 %, in steps that take prompts in.
    "h200x1-releases/01": "unknown",
    "h200x2-releases/01": "unknown",
    # One load was measured, which tells no cause.
    "h100x1-pairs/delay": "unknown",
}
# Injected, and nothing of it is red: what the engine chose is told all the same.
TRADES = {"h200x1-planted/attention/02": "attention"}
# Injected, and nothing of it is seen.
UNSEEN = ["h200x1-planted/untuned/01", "h200x1-planted/untuned/02"]
BOUNDS = [
    (loss_rules, "ALIKE"),
    (loss_rules, "PER_TOKEN_SHARE"),
    (loss_rules, "WIDEST_BATCH"),
    (loss_rules, "PREFILL_OVER_STEP"),
    (loss_rules, "LARGE"),
    (loss_rules, "UNLIKE"),
    (loss_rules, "GROWTH"),
    (profiled, "AS_CAUSE"),
    (choice_rules, "CAPPED_SHARE"),
    (choice_rules, "LEAST_STREAMS"),
    (symptoms, "SIGMAS"),
    (symptoms, "SMALLEST"),
]


def unchanged():
    """Every stored run into which nothing was injected."""
    names = []
    for file in sorted(RUNS.rglob("results.json*")):
        name = str(file.parent.relative_to(RUNS))
        if name not in INJECTED | TRADES and name not in UNSEEN:
            names.append(name)
    return names


@pytest.fixture(scope="module")
def causes_of():
    """The causes of a stored run, by the baselines of the repository."""
    store = Store(ROOT / "baselines")
    runs = {}

    def causes(name):
        if name not in runs:
            runs[name] = load(RUNS / name)
        diagnoses = judged_again(runs[name], store).diagnoses
        return [row.cause for row in diagnoses]

    return causes


@pytest.mark.parametrize(("name", "cause"), INJECTED.items())
def test_cause_of_an_injected_change(causes_of, name, cause):
    """One for the whole run, whatever the servers are called."""
    assert [cause] == causes_of(name)


@pytest.mark.parametrize(("name", "cause"), TRADES.items())
def test_choice_that_cost_nothing_is_told(causes_of, name, cause):
    """For what it made better."""
    assert [cause] == causes_of(name)


@pytest.mark.parametrize("name", UNSEEN + unchanged())
def test_nothing_is_named_where_nothing_is_red(causes_of, name):
    """An unchanged run has no cause."""
    assert [] == causes_of(name)


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize(("module", "bound"), BOUNDS)
def test_no_bound_is_fitted_to_a_run(
    causes_of, monkeypatch, module, bound, factor
):
    """A quarter more or less of any bound, and every cause is still the same."""
    monkeypatch.setattr(module, bound, getattr(module, bound) * factor)

    assert {name: [cause] for name, cause in INJECTED.items()} == {
        name: causes_of(name) for name in INJECTED
    }


def test_stored_profile_names_the_kernel():
    """A bad kernel file of the experts: their kernel explains what a step lost."""
    run = load(RUNS / "h200x1-planted" / "moe-explained" / "01")

    (profile,) = run.profiles
    assert ["fused_moe_kernel"] == [row.name for row in profile.slower]
    assert 0.8 <= profile.explained <= 1.1
    assert profile.agrees
    assert profile.now.overhead < 0.05


def test_stored_profile_names_communication():
    """NCCL over shared memory: of the loss it explains all, and no rank is late."""
    run = load(RUNS / "h200x2-planted" / "nccl-shm" / "01")
    (diagnosis,) = judged_again(run, Store(ROOT / "baselines")).diagnoses

    assert (
        "In the profile communication between the ranks takes 69.3 ms longer: "
        "108 % of the loss"
    ) == diagnosis.evidence[0]
    assert not diagnosis.by_choice


def test_stored_duel_names_the_chunk_as_its_verdicts_do():
    """With the injection, which the candidate alone had."""
    run = load(RUNS / "h200x1-held" / "chunk" / "01")
    (diagnosis,) = judged_again(run, Store(ROOT / "baselines")).diagnoses

    assert ("prefill", True) == (diagnosis.phase, diagnosis.by_choice)
    assert "arguments --max-num-batched-tokens 512" == diagnosis.injected
    assert (
        "chunked_prefill_tokens off -> 512",
        "No batch that is slower fits into a chunk; what decodes least lost most: "
        "prefill",
    ) == diagnosis.evidence[:2]
