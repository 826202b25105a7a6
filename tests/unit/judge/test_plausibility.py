"""Plausibility: what is too good to be true is INVALID until a person accepts it."""

import dataclasses

import msgspec
import pytest

from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge, judge_run
from perfgate.judge.observation import Decoding, RunReader
from perfgate.judge.paired import judge_paired
from perfgate.judge.verdict import Outcome
from perfgate.results import schema as rundata
from tests.support import builders as m
from tests.support.projects import ROOT

UTILISATION = msgspec.structs.replace(m.ITL, metric="bandwidth_utilisation")
READY = msgspec.structs.replace(
    m.ITL, metric="ready_s", numerator=m.Load(server=m.MOE)
)
REST = msgspec.structs.replace(READY, metric="memory_rest_bytes")
ITL_P99 = msgspec.structs.replace(m.ITL, metric="itl_p99_ms")
ITL_CPU = msgspec.structs.replace(
    m.ITL, numerator=m.Load(server=m.MOE_CPU, workload=m.CLOSED)
)
ANSWERS = " ".join(f"a{number:05}" for number in range(16))
HONEST = Decoding(itl_over_tpot=0.9, bandwidth_utilisation=0.85)


def with_changed(answers, number):
    """The same answers, but for the first ones."""
    kept = answers.split()[number:]
    return " ".join(["ffffff"] * number + kept)


def decided(
    value, case=m.THROUGHPUT, reference=100.0, decoding=HONEST, changed=None
):
    """A run with this value against six launches of a baseline.

    Args:
        changed: how many of the 16 answers are others; None: none are known.
    """
    observation = dataclasses.replace(
        m.seen(case, value, value, value), decoding=(decoding,)
    )
    baseline = m.recorded(case, [reference * factor for factor in m.QUIET])
    if changed is not None:
        context = {"answers": with_changed(ANSWERS, changed)}
        observation = dataclasses.replace(observation, context=context)
        baseline = dataclasses.replace(baseline, context={"answers": ANSWERS})
    return judge(case, observation, baseline, today=m.TODAY)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (110.0, Outcome.IMPROVED),
        (129.0, Outcome.IMPROVED),
        (131.0, Outcome.INVALID),
        (90.0, Outcome.REGRESSED),
        (60.0, Outcome.REGRESSED),
    ],
)
def test_a_gain_beyond_30_percent_is_not_believed(value, outcome):
    """A loss of any size is."""
    assert outcome == decided(value).outcome


def test_a_latency_gains_by_the_same_factor():
    """An ITL of 1/1.31 is as implausible as a throughput of 1.31."""
    assert Outcome.IMPROVED is decided(100 / 1.29, m.ITL).outcome
    assert Outcome.INVALID is decided(100 / 1.31, m.ITL).outcome


def test_the_message_has_the_factor_and_the_command():
    """And what the value alone would say."""
    decision = decided(162.0)

    assert decision.implausible
    assert 0 == decision.needs_launches
    assert (
        "too good to be true: 1.62x as good as before, more than 1.3x"
        == decision.summary
    )
    assert decision.details[0].startswith(
        "By value alone: +62.0 % vs the baseline"
    )
    assert (
        f"`perfgate accept <run> --only '{m.THROUGHPUT.id}' --reason 'WHY'`."
        in decision.advice
    )


def test_cpus_may_gain_up_to_four_times():
    """Their neighbours take more than a change of software gives."""
    assert Outcome.IMPROVED is decided(100 / 3.9, ITL_CPU).outcome
    assert Outcome.INVALID is decided(100 / 4.1, ITL_CPU).outcome


@pytest.mark.parametrize(
    "case", [READY, ITL_P99, REST], ids=["start-up", "tail", "remainder"]
)
def test_a_large_gain_of_a_jumpy_metric_is_usual(case):
    """A warm cache halves a start; a tail loses a stall; a smaller chunk needs less."""
    assert Outcome.IMPROVED is decided(100 / 3, case).outcome


def test_a_side_of_a_ratio_gains_as_much_as_a_value():
    """A ratio gained 20 %, because both sides gained: one 50 %, the other 25 %."""
    observation = m.seen(m.RATIO, 1.2, 1.2, 1.2)
    samples = []
    for sample in observation.samples:
        samples.append(
            msgspec.structs.replace(sample, numerator=150.0, denominator=125.0)
        )
    baseline = m.recorded(m.RATIO, [1.0 * factor for factor in m.QUIET])
    observation = dataclasses.replace(observation, samples=tuple(samples))

    decision = judge(m.RATIO, observation, baseline, today=m.TODAY)

    assert Outcome.INVALID is decision.outcome
    assert "1.5x" in decision.summary


BURSTS = Decoding(itl_over_tpot=0.0012)


@pytest.mark.parametrize(
    ("value", "reference"), [(0.01, 8.0), (16.0, 8.0)], ids=["gain", "loss"]
)
def test_tokens_in_bursts_make_no_itl(value, reference):
    """Whatever became of it: the median gap is none between tokens."""
    decision = decided(value, m.ITL, reference, BURSTS)

    assert Outcome.INVALID is decision.outcome
    assert (
        "tokens arrive in bursts: the ITL median is 0.12 % of the TPOT median, "
        "below 50.0 %"
    ) == decision.summary
    assert "multi-step scheduling" in decision.advice


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            Decoding(0.9, short_gap_share=0.5),
            "50.0 % of the gaps between chunks are far shorter than a step",
        ),
        (
            Decoding(4.0, tokens_per_chunk=4.0),
            "chunks hold 4 tokens each: ITL is the time of a chunk, not of a token",
        ),
    ],
)
@pytest.mark.parametrize("value", [4.0, 16.0], ids=["gain", "loss"])
def test_chunks_in_other_pieces_make_no_itl(figures, said, value):
    """Of two tokens that come together, and of chunks that hold several."""
    decision = decided(value, m.ITL, 8.0, figures)

    assert Outcome.INVALID is decision.outcome
    assert said in decision.summary
    assert Outcome.IMPROVED is decided(110.0, decoding=figures).outcome


def test_chunks_of_one_token_each_do():
    """As real servers send them; of an older run nothing is known."""
    usual = Decoding(0.9, short_gap_share=0.03, tokens_per_chunk=1.02)

    assert Outcome.REGRESSED is decided(16.0, m.ITL, 8.0, usual).outcome
    assert Outcome.REGRESSED is decided(16.0, m.ITL, 8.0, HONEST).outcome


def test_bursts_say_nothing_about_throughput():
    """The tokens did arrive."""
    decision = decided(110.0, decoding=BURSTS)

    assert Outcome.IMPROVED is decision.outcome


TPOT = msgspec.structs.replace(m.ITL, metric="tpot_median_ms")


def test_a_late_first_token_is_no_gain_of_tpot():
    """TPOT counts from it: a buffer of five tokens takes 6 % off. A loss is one."""
    gain = decided(94.0, TPOT, 100.0, BURSTS)

    assert Outcome.INVALID is gain.outcome
    assert "Judge this load by E2EL and throughput" in gain.advice
    assert Outcome.IMPROVED is decided(94.0, TPOT, 100.0, HONEST).outcome
    assert Outcome.REGRESSED is decided(120.0, TPOT, 100.0, BURSTS).outcome


def test_the_tokens_of_a_first_chunk_are_no_gain_of_tpot():
    """Five of them make it smaller by as much; speculative decoding makes it half."""
    pieces = Decoding(4.0, tokens_per_chunk=5.0)
    length = m.ITL.numerator.workload.prompts.output_len_tokens
    free = 1 - 4 / (length - 1)

    first = decided(100 * free, TPOT, 100.0, pieces)
    assert Outcome.INVALID is first.outcome
    assert "the first chunk holds several tokens" in first.advice
    assert Outcome.IMPROVED is decided(80.0, TPOT, 100.0, pieces).outcome
    assert Outcome.REGRESSED is decided(130.0, TPOT, 100.0, pieces).outcome


def test_a_first_token_in_a_burst_is_judged_and_told():
    """A buffer delays it and cannot hasten it: the loss is one, with its likely cause."""
    note = "what holds them back delays the first token as well"
    loss = decided(200.0, m.TTFT, 100.0, BURSTS)

    assert Outcome.REGRESSED is loss.outcome
    assert note in loss.details[0]
    honest = decided(200.0, m.TTFT, 100.0, HONEST)
    assert note not in " ".join(honest.details)
    same = decided(100.0, m.TTFT, 100.0, BURSTS)
    assert (Outcome.PASSED, False) == (
        same.outcome,
        note in " ".join(same.details),
    )


def test_no_gap_at_all_is_a_burst():
    """A front that writes five tokens at once: the median gap is 0, and no sample."""
    base = dataclasses.replace(m.seen(m.ITL, 8.0), samples=())
    none = dataclasses.replace(base, decoding=(Decoding(itl_over_tpot=0.0),))
    decision = judge(m.ITL, none, m.recorded(m.ITL, [8.0] * 6), today=m.TODAY)

    assert Outcome.INVALID is decision.outcome
    assert (
        "tokens arrive in bursts: the ITL median is 0.0 %" in decision.summary
    )
    lost = dataclasses.replace(base, decoding=(HONEST,))
    other = judge(m.ITL, lost, m.recorded(m.ITL, [8.0] * 6), today=m.TODAY)
    assert "bursts" not in other.summary


def test_accepted_bursts_pass():
    """The baseline has them too: a person accepted them."""
    decision = decided(0.01, m.ITL, 0.01, BURSTS)

    assert Outcome.PASSED is decision.outcome


def test_bursts_do_not_begin_a_baseline():
    """Nothing is recorded yet, and this must not be."""
    observation = dataclasses.replace(m.seen(m.ITL, 0.01), decoding=(BURSTS,))

    assert Outcome.INVALID is judge(m.ITL, observation, None).outcome
    honest = dataclasses.replace(m.seen(m.ITL, 8.0), decoding=(HONEST,))
    assert Outcome.NO_BASELINE is judge(m.ITL, honest, None).outcome


TOO_FAST = Decoding(itl_over_tpot=0.9, bandwidth_utilisation=1.02)


@pytest.mark.parametrize(
    ("case", "value", "outcome"),
    [
        (m.THROUGHPUT, 110.0, Outcome.INVALID),
        (m.ITL, 90.0, Outcome.INVALID),
        (m.THROUGHPUT, 90.0, Outcome.REGRESSED),
        (m.TTFT, 80.0, Outcome.IMPROVED),
        (UTILISATION, 110.0, Outcome.INVALID),
        (UTILISATION, 90.0, Outcome.INVALID),
    ],
)
def test_more_than_the_bandwidth_of_the_memory_is_impossible(
    case, value, outcome
):
    """A faster decoding is not believed then, and the utilisation never."""
    assert outcome == decided(value, case, decoding=TOO_FAST).outcome


def test_the_message_has_the_utilisation():
    """It is a fact of the data sheet."""
    assert (
        "physically impossible: decoding would use 102.0 % of the data sheet's memory "
        "bandwidth"
    ) == decided(110.0, decoding=TOO_FAST).summary


@pytest.mark.parametrize(
    ("value", "changed", "outcome"),
    [
        (110.0, 9, Outcome.INVALID),
        (110.0, 8, Outcome.IMPROVED),
        (110.0, None, Outcome.IMPROVED),
        (100.0, 16, Outcome.PASSED),
        (90.0, 16, Outcome.REGRESSED),
    ],
)
def test_a_gain_with_other_answers_is_not_believed(value, changed, outcome):
    """Where more than half of them changed; without a gain that is a note."""
    assert outcome == decided(value, changed=changed).outcome


def test_the_message_counts_the_answers():
    """In the summary of what is INVALID, and in the context of everything else."""
    assert "the answers changed: 12 of 16" == decided(110.0, changed=12).summary
    assert (
        "Context: answers: 3 of 16 changed."
        in decided(100.0, changed=3).details
    )


def paired_run(values, base_values, answers=(ANSWERS, ANSWERS)):
    """A run of pairs with these throughputs, and what both builds answered."""
    base = m.MOE_LOAD.base
    results = m.run(
        {
            m.MOE_LOAD: {"output_throughput": values},
            base: {"output_throughput": base_values},
        },
        [m.THROUGHPUT],
    )
    hashes = dict(
        zip((m.MOE.key, base.server.key), map(str.split, answers), strict=True)
    )
    launches = []
    for launch in results.launches:
        own = tuple(hashes[launch.server])
        launches.append(msgspec.structs.replace(launch, answers=own))
    return msgspec.structs.replace(
        results, mode="paired", launches=tuple(launches)
    )


@pytest.mark.parametrize(
    ("value", "changed", "outcome"),
    [
        (1100.0, 0, Outcome.IMPROVED),
        (1400.0, 0, Outcome.INVALID),
        (1100.0, 12, Outcome.INVALID),
        (1000.0, 12, Outcome.PASSED),
    ],
)
def test_pairs_are_held_to_the_same(value, changed, outcome):
    """A candidate against its base build, by gain and answers."""
    answers = with_changed(ANSWERS, changed), ANSWERS
    run = paired_run([value] * 3, [1000.0] * 3, answers)

    decision = judge_paired(RunReader(run), m.THROUGHPUT)

    assert outcome == decision.outcome
    assert "perfgate accept" not in decision.advice


def test_figures_of_a_load_are_read_from_its_run():
    """Both medians and the utilisation, of the launches that count."""
    run = m.run(
        {
            m.MOE_LOAD: {
                "itl_median_ms": [2.0, None],
                "tpot_median_ms": [8.0, None],
                "bandwidth_utilisation": [0.5, None],
            }
        },
        [m.ITL],
    )

    (decoding,) = RunReader(run).observe(m.ITL).decoding

    assert pytest.approx(0.25) == decoding.itl_over_tpot
    assert pytest.approx(0.5) == decoding.bandwidth_utilisation


def test_a_server_without_load_has_no_figures():
    """Nor has a load of which they are unknown."""
    load = m.Load(server=m.MOE)
    ready = msgspec.structs.replace(m.ITL, metric="ready_s", numerator=load)
    run = m.run(
        {
            load: {"ready_s": [50.0]},
            m.MOE_LOAD: {"output_throughput": [1000.0]},
        },
        [ready, m.THROUGHPUT],
    )
    reader = RunReader(run)

    assert (Decoding(),) == reader.observe(ready).decoding
    assert (Decoding(),) == reader.observe(m.THROUGHPUT).decoding


@pytest.mark.parametrize("name", ["h200x1-20261125a", "h100x1-20261126a"])
def test_measured_runs_are_plausible(name):
    """Every kind of load of both engines on GPUs; nothing of them is doubted."""
    results = rundata.load(ROOT / "docs" / "runs" / name)
    verdicts = judge_run(results, Store(ROOT / "baselines"), m.TODAY)

    assert [] == [row.case for row in verdicts if row.implausible]


def test_a_person_accepts_it_with_a_reason_and_it_passes_from_then_on(tmp_path):
    """Without a reason nothing is written; the old launches go, as the value moved."""
    store = Store(tmp_path / "baselines")
    folders = []
    for day, value in enumerate([1000.0, 1400.0, 1400.0], 1):
        m.saved(tmp_path, day, value)
        folders.append(tmp_path / f"202606{day:02}-120000-1")
    accept(folders[:1], store, Choice(), env={})
    only = (m.THROUGHPUT.id,)

    with pytest.raises(RecordingRefused, match=r"1\.4x .*give a --reason"):
        accept(folders[1:2], store, Choice(only=only), env={})
    reason = Choice(only=only, reason="a new attention kernel")
    accepted = accept(folders[1:2], store, reason, env={})

    (proposal,) = accepted.proposals
    assert [1400.0] == [sample.value for sample in proposal.new.launches]
    (verdict,) = judge_run(rundata.load(folders[2]), store, m.TODAY)
    assert not verdict.implausible
    assert verdict.outcome is not Outcome.INVALID
