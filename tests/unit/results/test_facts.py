"""Facts of a launch: its settings, the answers to a batch, its operators."""

import msgspec

from perfgate.results import facts
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
