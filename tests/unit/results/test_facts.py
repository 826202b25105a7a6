"""Facts of a launch: its settings, the answers to a batch, its operators."""

import msgspec

from perfgate.results import facts
from perfgate.results.samples import RunIndex
from tests.support import builders as m


def test_settings_that_were_seen():
    """Choices and settings in one spelling, without what the log did not say."""
    launch = m.launched(
        effective={"graphs": "off", "moe_backend": "not seen"},
        settings={"chunked_prefill_tokens": "4096"},
    )
    assert {
        "graphs": "off",
        "chunked_prefill_tokens": "4096",
    } == facts.settings(launch)


def test_answers_and_operators_of_a_batch():
    """Answers by their number, operators by their name."""
    row = msgspec.structs.replace(
        m.measurement(m.MOE_LOAD),
        answers=("ab", "cd"),
        operators={"aten.mm.default": 3},
    )
    assert {"answer 1": "ab", "answer 2": "cd"} == facts.answers(row)
    assert {"aten.mm.default": "3"} == facts.operators(row)


def test_settings_are_a_sample_of_their_launch():
    """Their number is the value; a launch that reported none has no sample."""
    results = m.run({m.MOE_LOAD: {"output_throughput": [1.0, 1.0]}}, [])
    first, second = results.launches
    first = msgspec.structs.replace(first, settings={"max_num_seqs": "256"})
    results = msgspec.structs.replace(results, launches=(first, second))

    samples = RunIndex(results).samples_of(m.MOE.key, None, facts.SETTINGS)

    (sample,) = samples
    assert (0, 1.0, {"max_num_seqs": "256"}) == (
        sample.launch,
        sample.value,
        sample.facts,
    )


def test_operators_are_a_sample_of_their_batch():
    """The value is that of the repetition; the facts are the operators by name."""
    results = m.run({m.MOE_LOAD: {"work_operators": [3.0]}}, [])
    (row,) = results.measurements
    row = msgspec.structs.replace(row, operators={"aten.mm.default": 3})
    results = msgspec.structs.replace(results, measurements=(row,))

    (sample,) = RunIndex(results).samples_of(
        m.MOE.key, m.CLOSED.name, facts.OPERATORS
    )

    assert (3.0, {"aten.mm.default": "3"}) == (sample.value, sample.facts)
