"""Text of a diagnosis: what, who, phase, cause, what else, what got better, what to do."""

from pathlib import Path

import msgspec
import pytest

from perfgate.judge.baseline_store import Store
from perfgate.judge.run_status import judged_again
from perfgate.report import diagnosis_text, headline, summary
from perfgate.report.junit import junit
from perfgate.results.diagnosis import PhaseShare, Split
from perfgate.results.schema import load
from tests.unit.report.test_profile_text import PROFILE, PROOF

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def capped():
    """A stored run whose batch was capped, judged again."""
    run = load(ROOT / "docs" / "runs" / "h200x1-planted" / "seqs" / "01")
    return judged_again(run, Store(ROOT / "baselines"))


def test_lines_stand_in_the_order_of_the_questions(capped):
    """One line each, and one command at the end."""
    (text,) = diagnosis_text.render_all(capped, "runs/x")
    first, *lines = text.splitlines()

    assert first == (
        "CAUSE: capped batch (requests wait, no step is slower), lost in the queue"
    )
    names = [line.split(":")[0].strip() for line in lines]
    assert names == [
        "what",
        "who",
        "phase",
        "seen",
        "differs",
        "mixed",
        "worth",
        "do",
    ]
    assert "-77.5 % vs the baseline" in lines[0]
    assert "At most 16 streams decode at once" in text
    assert "better ITL of batch-32 -6.1 %" in text
    assert "million output tokens per GPU-hour (-41.9 %)" in text
    assert "measure again without the injection" in lines[-1]


def test_next_step_is_a_command(capped):
    """Where nothing was injected."""
    (row,) = capped.diagnoses
    plain = msgspec.structs.replace(row, injected="", next_step="pytest -x")

    assert diagnosis_text.advice(plain) == "`pytest -x`"


def test_parts_of_a_loss_are_signed():
    """A gain has a minus sign."""
    split = Split(
        server="s",
        load="closed-c32",
        before_ms=100.0,
        now_ms=112.0,
        shares=(
            PhaseShare(name="queue", ms=14.0),
            PhaseShare(name="decode", ms=-2.0),
        ),
    )

    assert (
        "closed-c32: +12.0 ms a request = +14.0 queue, -2.0 decode"
        == diagnosis_text.split_text(split)
    )


def test_rounded_parts_of_a_loss_add_up():
    """As they are read: 1.07 is not written beside -0.3 and 1.3."""
    split = Split(
        server="s",
        load="single-stream",
        before_ms=300.0,
        now_ms=301.07,
        shares=(
            PhaseShare(name="queue and prefill", ms=-0.26),
            PhaseShare(name="decode", ms=1.33),
        ),
    )

    assert (
        "single-stream: +1.0 ms a request = -0.3 queue and prefill, +1.3 decode"
        == diagnosis_text.split_text(split)
    )


def test_a_load_that_gained_shows_no_lost_phase(capped):
    """The phase is that of a load that takes longer; else there is no such line."""
    (row,) = capped.diagnoses
    gain = Split(
        server=row.servers[0],
        load="single-stream",
        before_ms=300.0,
        now_ms=294.0,
        shares=(PhaseShare(name="decode", ms=-6.0),),
    )
    gained = msgspec.structs.replace(row, splits=(gain,))

    assert "  phase:" not in diagnosis_text.render(capped, gained)


def test_a_name_with_run_in_it_stays_as_it_is(capped):
    """NCCL_RUNTIME_CONNECT is no placeholder for the run."""
    (row,) = capped.diagnoses
    named = "environment NCCL_RUNTIME_CONNECT=0"
    injected = msgspec.structs.replace(row, injected=named)
    run = msgspec.structs.replace(capped, diagnoses=(injected,))

    assert f"({named})" in diagnosis_text.render(run, injected, "runs/x")
    assert named in headline.attention(run, "runs/x")[0].advice


def test_summary_and_junit_have_the_cause(capped):
    """The same text, made once."""
    (text,) = diagnosis_text.render_all(capped)

    assert text in summary.markdown(capped, None)
    assert "CAUSE: capped batch" in junit(capped)
    assert 'name="causes"' in junit(capped)


def test_profile_and_counter_proof_belong_to_their_servers(capped):
    """In the text, and in the headline; not to a diagnosis of another one."""
    own = msgspec.structs.replace(
        PROFILE, server=capped.diagnoses[0].servers[0]
    )
    proof = msgspec.structs.replace(PROOF, server=own.server)
    run = msgspec.structs.replace(
        capped, profiles=(own,), counter_proofs=(proof,)
    )
    other = msgspec.structs.replace(capped, profiles=(PROFILE,))

    (text,) = diagnosis_text.render_all(run, "runs/x")
    assert "  explains: 96 % of the +12.5 ms" in text
    assert "  proof:    with --moe-backend triton put back" in text
    finding = diagnosis_text.finding(run, run.diagnoses[0])
    assert "kernels explain 96 % of the" in finding
    assert "put back" in finding
    assert "explains" not in diagnosis_text.render_all(other)[0]


def test_a_server_without_a_profile_has_a_reason(capped):
    """Where one was tried."""
    (key,) = capped.diagnoses[0].servers
    run = msgspec.structs.replace(capped, unexplained={key: "no GPU"})

    (text,) = diagnosis_text.render_all(run)

    assert f"  profile:  {key} could not be profiled: no GPU" in text


def test_other_answers_are_no_matter_of_timing():
    """The row says what was seen; a cause by its timing says so."""
    store = Store(ROOT / "baselines")
    shown = []
    for name in ("answers", "delay"):
        run = load(ROOT / "docs" / "runs" / "h200x1-planted" / name / "01")
        (text,) = diagnosis_text.render_all(judged_again(run, store))
        shown.append(text)

    assert "by its timing" not in shown[0]
    assert "(by its timing)" in shown[1]
