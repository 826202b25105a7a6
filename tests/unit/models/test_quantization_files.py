"""Quantization in files: each method, each place, and what is refused."""

import json

import pytest

from perfgate.models.catalogue import (
    UnknownArchitecture,
    parse_config,
    read_config,
)
from tests.support.studies import SHIPPED

LLAMA = SHIPPED.models["llama-3.1-8b"]
GROUP = {"targets": ["Linear"]}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "strategy": "group"}


def gigabytes(config=None, beside=None):
    """Weights of Llama-3.1-8B with these fields."""
    fields = LLAMA.config | (config or {})
    shape = parse_config(fields, "config.json", beside)
    return round(shape.weights_bytes("bfloat16") / 1e9, 2)


def compressed(weights, **more):
    """A table of compressed-tensors with one group."""
    groups = {"group_0": GROUP | {"weights": weights}}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": groups,
        "ignore": ["lm_head"],
    } | more


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"quant_method": "fp8"}, 9.08),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 9.08),
        ({"quant_method": "fbgemm_fp8"}, 9.09),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 5.73),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 5.73),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 9.09),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 6.03),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 9.09),
        (compressed(INT4), 5.7),
        (compressed({"num_bits": 8, "type": "float"}), 9.08),
        (compressed({"num_bits": 4, "type": "float", "group_size": 32}), 5.81),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 9.08),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 6.03),
        ({"quant_algo": "NVFP4", "ignore": ["*self_attn*"]}, 7.96),
    ],
)
def test_each_method(table, expected):
    """6.98 B of 8.03 B parameters are quantized; embedding, head and norms are not."""
    assert 16.06 == gigabytes()
    assert expected == gigabytes({"quantization_config": table})


@pytest.mark.parametrize(
    ("config", "beside"),
    [
        ({"compression_config": compressed(INT4)}, None),
        ({"text_config": {"quantization_config": compressed(INT4)}}, None),
    ],
)
def test_other_fields(config, beside):
    """Older files call it compression_config; others have it in the text part."""
    fields = dict(LLAMA.config)
    if "text_config" in config:
        config = {
            "model_type": "mistral3",
            "text_config": fields
            | {"model_type": "mistral"}
            | config["text_config"],
        }
        fields = {}
    shape = parse_config(fields | config, "config.json", beside)

    assert 5.7 == round(shape.weights_bytes("bfloat16") / 1e9, 2)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "hf_quant_config.json",
            {"quantization": {"quant_algo": "NVFP4"}},
            6.03,
        ),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, 5.73),
        (
            "quant_config.json",
            {"w_bit": 4, "q_group_size": 128, "zero_point": True},
            5.73,
        ),
    ],
)
def test_files_beside_it(tmp_path, name, content, expected):
    """In a folder, the files of ModelOpt, GPTQ and AWQ count."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA.config))
    plain = read_config(tmp_path)
    (tmp_path / name).write_text(json.dumps(content))

    quantized = read_config(tmp_path)

    assert LLAMA.architecture == plain
    assert expected == round(quantized.weights_bytes("bfloat16") / 1e9, 2)


@pytest.mark.parametrize(
    ("table", "seen"),
    [
        ("fp8", "quantization_config is 'fp8': no table"),
        (["fp8"], "no table"),
        ({"quant_method": "quark"}, "quant_method is 'quark'"),
        ({"quant_method": 4}, "quant_method is 4"),
        ({"bits": 4}, "quant_method is 'unnamed'"),
        ({"quant_method": "gptq", "bits": 5}, "bits is 5"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"a": {}}}, "dynamic"),
        ({"quant_method": "awq"}, "bits is missing"),
        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, "block_size"),
        ({"quant_method": "compressed-tensors"}, "config_groups"),
        (compressed({"num_bits": 3, "type": "int"}), "num_bits is 3"),
        (
            compressed({"num_bits": 4, "type": "float", "group_size": 64}),
            "group_size is 64",
        ),
        (compressed(INT4, ignore=["re:("]), "invalid regular expression"),
        (
            compressed(INT4, sparsity_config={"format": "sparse-24-bitmask"}),
            "sparse-24-bitmask",
        ),
        ({"quant_method": "modelopt", "quant_algo": "INT2"}, "'INT2'"),
        ({"quant_algo": "MIXED_PRECISION"}, "quantized_layers"),
    ],
)
def test_what_is_not_understood_is_refused(table, seen):
    """A method, an algorithm or a number that is not known is named."""
    with pytest.raises(UnknownArchitecture, match=seen):
        gigabytes({"quantization_config": table})


def test_experts_must_agree():
    """Of one layer, in a table that lists them one by one."""
    layers = {
        "model.layers.0.mlp.experts.0.gate_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.experts.1.gate_proj": {"quant_algo": "NVFP4"},
    }
    table = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}

    with pytest.raises(UnknownArchitecture, match="differ in their format"):
        gigabytes({"quantization_config": table})
