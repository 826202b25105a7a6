"""Fields of a configuration: types and bounds, each error with the field's name."""

import pytest

from perfgate.models.families.fields import (
    Common,
    FieldInvalid,
    FieldMissing,
    Fields,
    Unsupported,
)

COMMON = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "num_hidden_layers": 2,
}


@pytest.mark.parametrize("value", [0, -1, 2**40, True, 1.0, "64", [64], {}])
def test_what_is_no_count_is_refused(value):
    """Zero, negative and absurd numbers, and what is no whole number."""
    with pytest.raises(FieldInvalid, match="hidden_size is"):
        Fields({"hidden_size": value}).count("hidden_size")


def test_a_missing_field_is_named_with_its_table():
    """Of a table in the file, too."""
    table = Fields({"text_config": {}}).table("text_config")

    with pytest.raises(FieldMissing, match=r"text_config\.hidden_size"):
        table.count("hidden_size")


@pytest.mark.parametrize(
    ("read", "value", "seen"),
    [
        ("flag", 1, "neither true nor false"),
        ("texts", "full", "no list"),
        ("texts", [1], "no list of texts"),
        ("counts", [-1], "not between"),
        ("table", [1], "no table"),
    ],
)
def test_other_types_are_refused(read, value, seen):
    """A flag, a list and a table are what they are called."""
    with pytest.raises(FieldInvalid, match=f"x is .*{seen}"):
        getattr(Fields({"x": value}), read)("x")


def test_a_long_value_is_cut():
    """A message stays one line."""
    with pytest.raises(FieldInvalid) as error:
        Fields({"x": "y" * 1000}).flag("x")
    assert 100 > len(str(error.value))


def test_too_many_layers_are_refused():
    """Before they take all memory."""
    with pytest.raises(FieldInvalid, match="num_hidden_layers is 100000"):
        Common(Fields(COMMON | {"num_hidden_layers": 100_000}))


@pytest.mark.parametrize(
    ("names", "error", "seen"),
    [
        (["a", "c"], Unsupported, "layer_types names c"),
        (["a"], FieldInvalid, "layer_types has 1 entries, for 2 layers"),
        (None, FieldMissing, "layer_types is missing"),
    ],
)
def test_each_layer_has_a_known_name(names, error, seen):
    """One for each layer, and none that is not understood."""
    common = Common(Fields(COMMON | {"layer_types": names}))

    with pytest.raises(error, match=seen):
        common.layer_names("layer_types", ("a", "b"))
