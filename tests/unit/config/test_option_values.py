"""Values of options are parsed; a bad one is refused with the option and a remedy."""

import pytest

from perfgate.config.option_values import (
    BadOption,
    name_value_pairs,
    refuse_below,
    refuse_combinations,
    refuse_unknown_engines,
)


def test_pairs_are_split_at_the_first_equals_sign():
    """A value may contain one; a later value of a name replaces an earlier one."""
    texts = ["vllm=/a", "sglang=/b", "vllm=/c=d"]

    assert {"vllm": "/c=d", "sglang": "/b"} == name_value_pairs("--x", texts)
    assert {} == name_value_pairs("--x", [])


@pytest.mark.parametrize("text", ["vllm", "=value", "vllm=", ""])
def test_what_is_no_pair_is_refused(text):
    """The message has the option, the text and the form."""
    with pytest.raises(BadOption) as raised:
        name_value_pairs("--engine-python", ["a=b", text])

    assert f"reading --engine-python {text}" == raised.value.tried
    assert "write --engine-python NAME=VALUE" == raised.value.remedy


@pytest.mark.parametrize("value", [None, 1, 1.0, 600])
def test_numbers_from_the_least_on_are_accepted(value):
    """The least itself, and None: the default."""
    refuse_below("--launches", value, 1)


def test_smaller_numbers_are_refused():
    """The message has the value and the least."""
    with pytest.raises(BadOption) as raised:
        refuse_below("--lease-wait", 0.5, 1)

    assert "--lease-wait 0.5" == raised.value.tried
    assert "1" in raised.value.seen


def test_nan_is_no_number_of_an_option():
    """It is below and above nothing: a wait or a time limit of it would never end."""
    with pytest.raises(BadOption) as raised:
        refuse_below("--stall-timeout", float("nan"), 1)

    assert "--stall-timeout nan" == raised.value.tried


def test_unknown_engines_are_refused_with_a_suggestion():
    """All unknown ones are named, and what is near to the first."""
    refuse_unknown_engines("--engine", ["vllm", "sglang"])
    with pytest.raises(BadOption) as raised:
        refuse_unknown_engines("--engine", ["vlm", "vllm", "zzz"])

    assert "there is no engine vlm, zzz" == raised.value.seen
    assert raised.value.remedy.startswith("did you mean vllm? ")


def test_options_that_exclude_each_other_are_refused():
    """The remedy is to leave the other one out; without another one nothing happens."""
    refuse_combinations("--attach", "it launches nothing", [])
    with pytest.raises(BadOption) as raised:
        refuse_combinations("--attach", "it launches nothing", ["--launches"])

    assert "--attach with --launches" == raised.value.tried
    assert "it launches nothing" == raised.value.seen
    assert "leave --launches out" == raised.value.remedy
