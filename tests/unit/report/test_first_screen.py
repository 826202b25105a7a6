"""First screen: is it slower, what changed, why, what now, for each way a run can end."""

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.report import first_screen
from perfgate.results import schema
from tests.support import builders as m
from tests.support.goldens import ROOT
from tests.support.judged_runs import judged
from tests.unit.report.test_losses import DENSE, results_of, row


def replies(*runs, store=None, run="runs/X"):
    """Question -> the lines of its answer."""
    found = {}
    for reply in first_screen.replies(runs, store, run):
        found[reply.question] = [line.text for line in reply.lines]
    return found


@pytest.mark.parametrize(
    ("outcomes", "answer"),
    [
        (("REGRESSED", "PASSED"), "Worse: 1 of 2 judged values regressed"),
        (
            ("PASSED", "PASSED"),
            "Not slower: 2 values compared, all within limits",
        ),
        (("IMPROVED", "PASSED"), "Not slower: 2 values compared, 1 better"),
        (("INVALID", "PASSED"), "No answer: 1 of 2 measurements are invalid"),
        (
            ("NOT_EXCLUDED", "PASSED"),
            "No loss seen, but 1 of 2 values cannot rule one out",
        ),
        (
            ("INCONCLUSIVE", "PASSED"),
            "No answer: 1 of 2 values cannot be decided",
        ),
        (
            ("NO_BASELINE", "NO_BASELINE"),
            "No answer yet: this machine has no baseline to compare with",
        ),
        (
            ("NO_BASELINE", "PASSED"),
            "Not slower: 1 value compared, all within limits; the others have no "
            "baseline",
        ),
    ],
)
def test_one_sentence_says_whether_it_is_slower(outcomes, answer):
    """Each way a run can end has its own sentence; none is green without a comparison."""
    assert answer == first_screen.answer(judged(*outcomes))


def test_a_run_without_verdicts_measured_nothing():
    """It is no answer."""
    assert "Nothing was measured" == first_screen.answer(m.run({}, []))


def test_what_has_no_baseline_is_one_line():
    """However many values, with what to do once."""
    run = judged("NO_BASELINE", "NO_BASELINE", "NO_BASELINE")
    found = replies(run)

    assert ["3 values have no baseline yet"] == found["What changed"]
    assert 1 == len(found["What now"])


def test_a_loss_is_told_by_server():
    """The families that moved, with their changes; not one line for each case."""
    run = results_of(
        row(DENSE, "single-stream", "itl_median_ms", 4.1, "REGRESSED"),
        row(DENSE, "batch-32", "itl_median_ms", 3.0, "REGRESSED"),
    )

    assert [
        "vllm llama-3.1-8b-tp1: ITL +300.0 to +410.0 % (2 loads)"
    ] == replies(run)["What changed"]


def test_a_green_run_says_what_is_nearest_to_its_limit():
    """And that there is nothing to do."""
    verdict = row(DENSE, "batch-32", "itl_median_ms", 0.01)
    verdict = msgspec.structs.replace(
        verdict, worse_by=0.01, threshold=0.02, baseline=5.0, value=5.05
    )
    found = replies(results_of(verdict))

    assert [
        "Nothing beyond its limit. Nearest to it: vllm llama-3.1-8b-tp1, batch-32, ITL "
        "median, +1.0 % (+2.0 % allowed)."
    ] == found["What changed"]
    assert ["Nothing: the run is green."] == found["What now"]


def test_other_runs_are_compared_with_this_one():
    """The largest change since the other run is on the first screen."""
    before, after = judged("PASSED"), judged("PASSED")
    worse = msgspec.structs.replace(after.verdicts[0], value=900.0)
    after = msgspec.structs.replace(after, verdicts=(worse,))
    (line,) = replies(before, after)["Since run A"]

    assert "-10.0 % (1,000 tok/s → 900 tok/s)" in line


def test_runs_of_other_hardware_are_not_like_with_like():
    """Their numbers are shown, and that they cannot be compared."""
    pair = schema.load(ROOT / "docs/runs/h100x1-pairs/delay")
    other = judged("PASSED")

    lines = replies(pair, other)["Since run A"]
    assert [
        "The two runs have no value in common",
        "Not like with like: run A ran on 1x NVIDIA H100 80GB HBM3",
    ] == lines


def test_an_injected_run_is_to_be_measured_again_and_nothing_else():
    """Nobody is told to accept what was changed on purpose; the cause is named."""
    run = schema.load(ROOT / "docs/runs/h200x1-planted/eager/01")
    store = Store(ROOT / "baselines")
    found = replies(judged_again(run, store), store=store)

    assert [
        "Measure again without the injection (arguments --enforce-eager)"
    ] == found["What now"]
    assert found["Why"][0].startswith("No graphs, or fewer (")
