"""Quantization: modules that are left out, and formats of single modules."""

import pytest

from perfgate.models.catalogue import UnknownArchitecture
from perfgate.models.quantization import Patterns, module_names
from perfgate.models.shapes.formats import UnknownPrecision
from tests.support.model_configs import shape_of

NAME = "model.layers.3.mlp.gate_proj"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (NAME, True),
        ("model.layers.3.mlp", True),
        ("gate_proj", True),
        ("model.layers.*.mlp", True),
        ("*gate_proj", True),
        ("re:.*mlp.*", True),
        ("mlp", True),
        ("layers.3", True),
        ("model.layers.3.", True),
        ("layers.30", False),
        ("ayers.3", False),
        ("model.layers.30.mlp.gate_proj", False),
        ("gate", False),
        ("model.layers.*.self_attn", False),
        ("re:gate_proj", False),
    ],
)
def test_patterns_of_modules(pattern, matches):
    """Whole names, parts of them between dots, wildcards, and expressions."""
    assert matches == Patterns([pattern]).matches(NAME)


def test_published_names_of_a_module():
    """Files call the same module by several names; experts one by one, or together."""
    names = set(module_names("mlp.experts.gate_proj", ("layers.{}.",), 3))

    assert {
        "layers.3.mlp.experts.gate_proj",
        "layers.3.ffn.experts",
        "layers.3.block_sparse_moe.experts.0.w1",
    } <= names


def test_what_is_left_out_keeps_its_precision():
    """Kimi-K2.5 has experts of 4 bits; attention, shared experts and the head are whole."""
    shape = shape_of("kimi-k2.5")
    formats = {
        (tensor.group, tensor.format and tensor.format.name)
        for layer in shape.layers
        for tensor in layer.tensors
        if len(tensor.shape) == 2
    }

    assert {
        ("experts", "int4"),
        ("attention", None),
        ("dense", None),
        ("shared", None),
        ("router", None),
    } == formats


def test_layers_may_differ_in_precision():
    """A file may leave out one layer."""
    table = {
        "quant_method": "fp8",
        "modules_to_not_convert": ["model.layers.0"],
    }

    shape = shape_of("qwen3-30b-a3b-fp8", quantization_config=table)
    whole = shape_of("qwen3-30b-a3b-fp8", quantization_config=None)

    assert [1, 47] == [times for times, _ in shape.told.counted()]
    assert [48] == [times for times, _ in whole.told.counted()]


@pytest.mark.parametrize("name", ["self_attn", "model.layers.0."])
def test_parts_of_names_are_left_out_of_awq(name):
    """Wherever they stand in a module's name, as vLLM takes them."""
    table = {"quant_method": "awq", "bits": 4, "group_size": 128}
    changed = table | {"modules_to_not_convert": [name]}
    regular = table | {"modules_to_not_convert": [f"re:.*{name}.*"]}

    sizes = [
        shape_of("qwen3-30b-a3b-fp8", quantization_config=one).weights_bytes(
            "bfloat16"
        )
        for one in (table, changed, regular)
    ]

    assert sizes[0] < sizes[1] == sizes[2]


def test_a_module_that_is_unknown_is_refused():
    """Else its size would be missing."""
    table = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"model.layers.0.mystery": {"quant_algo": "FP8"}},
    }

    with pytest.raises(UnknownArchitecture, match=r"layers\.0\.mystery"):
        shape_of("qwen3-30b-a3b-fp8", quantization_config=table)


def test_online_quantization_is_that_of_an_engine():
    """A caller may ask for another precision of a model in bfloat16."""
    plain = shape_of("qwen3-vl-8b")
    quantized = plain.quantized("fp8")

    halved = plain.parameters - plain.group_parameters("embeddings")
    halved -= plain.group_parameters("norms")
    saved = plain.weights_bytes("bfloat16") - quantized.weights_bytes(
        "bfloat16"
    )
    assert "fp8" == quantized.quantization
    assert halved == pytest.approx(saved, rel=1e-5)


def test_an_unknown_precision_lists_the_known():
    """The size of another one is not guessed."""
    with pytest.raises(UnknownPrecision, match=r"'int1'.*\n.*\n.*fp8"):
        shape_of("qwen3-vl-8b").quantized("int1")
