"""Subject of a profile: the load that lost most of a diagnosis, and what it lost before."""

from pathlib import Path

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.results.schema import load
from perfgate.run.explain.subject import subject_of

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def run():
    """A stored run with a bad kernel file of the experts, judged again."""
    stored = load(ROOT / "docs" / "runs" / "h200x1-planted" / "moe" / "01")
    return judged_again(stored, Store(ROOT / "baselines"))


def test_the_load_that_lost_most_is_taken(run):
    """With what a step and a prefill lost there, and the tokens of a request."""
    (diagnosis,) = run.diagnoses

    subject = subject_of(run, diagnosis)

    assert "mixtral-8x7b" == subject.config.model
    assert "single-stream" == subject.workload.name
    assert "itl_median_ms" == subject.worst.metric
    assert {"decode", "prefill"} == subject.losses.keys()
    assert pytest.approx(12.2, abs=0.1) == subject.losses["decode"].added
    assert "ITL of single-stream" == subject.losses["decode"].name
    prompts = subject.workload.prompts
    assert prompts.output_len_tokens == subject.output_tokens


def test_a_batch_has_no_prefill_of_its_own(run):
    """Its first tokens wait for those of others."""
    verdicts = tuple(
        row for row in run.verdicts if "single-stream" not in row.case
    )
    (diagnosis,) = run.diagnoses
    other = msgspec.structs.replace(run, verdicts=verdicts)

    subject = subject_of(other, diagnosis)

    assert subject.workload.batch > 1
    assert "prefill" not in subject.losses


def test_without_a_compared_load_there_is_none(run):
    """As where memory alone was lost."""
    (diagnosis,) = run.diagnoses
    nothing = msgspec.structs.replace(run, verdicts=())

    assert None is subject_of(nothing, diagnosis)


def test_pairs_tell_what_a_step_lost():
    """The metric itself need not be judged."""
    stored = load(ROOT / "docs" / "runs" / "h100x1-pairs" / "delay")
    run = judged_again(stored, Store(ROOT / "baselines"))
    (diagnosis,) = run.diagnoses
    verdicts = tuple(
        row for row in run.verdicts if row.metric == "output_throughput"
    )
    throughput = msgspec.structs.replace(run, verdicts=verdicts)

    lost = subject_of(run, diagnosis).losses["decode"]
    same = subject_of(throughput, diagnosis).losses["decode"]

    assert lost.added > 0
    assert pytest.approx(lost.added, rel=0.05) == same.added


def test_a_red_mean_gap_is_known_beside_the_median():
    """A steady load of two releases: the mean lost four times what the median did."""
    stored = load(ROOT / "docs" / "runs" / "h200x1-releases" / "01")
    run = judged_again(stored, Store(ROOT / "baselines"))
    (diagnosis,) = run.diagnoses

    subject = subject_of(run, diagnosis)

    assert "mean ITL of steady-c32" == subject.mean.name
    assert subject.mean.added > 4 * subject.losses["decode"].added
