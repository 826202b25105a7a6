"""Architecture arithmetic vs `transformers`: parameter counts of every family."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from perfgate.engines import environment
from perfgate.models.catalogue import (
    CATALOGUE,
    UnknownArchitecture,
    parse_config,
)
from tests.support.model_configs import shape_of

ROOT = Path(__file__).resolve().parents[3]
# The file says where its counts come from.
COUNTED = json.loads(
    (ROOT / "tests" / "data" / "parameter_counts.json").read_text()
)["models"]


def architecture(name, **changes):
    """One of the counted models, with other fields."""
    return parse_config(
        COUNTED[name]["config"] | changes, f"{name}/config.json"
    )


@pytest.mark.parametrize("name", COUNTED)
def test_every_parameter_is_counted(name):
    """The count equals the one that transformers gives, to the last parameter."""
    assert COUNTED[name]["parameters"] == architecture(name).parameters


@pytest.mark.engine
def test_transformers_still_counts_so():
    """The stored counts are those of the engine's own transformers."""
    python = environment.find_python("vllm", "cpu", {}).path
    configs = json.dumps({name: row["config"] for name, row in COUNTED.items()})

    run = subprocess.run(
        [python, ROOT / "tests" / "support" / "count_parameters.py"],
        input=configs,
        capture_output=True,
        text=True,
        check=True,
    )

    assert {
        name: row["parameters"] for name, row in COUNTED.items()
    } == json.loads(run.stdout)


@pytest.mark.parametrize(
    "name", ["mixtral-8x7b", "llama-3.1-8b", "llama-3.1-70b"]
)
def test_catalogue_is_the_published_shape(name):
    """The catalogue's models are those of the published config.json."""
    assert CATALOGUE[name].architecture == architecture(name)


@pytest.mark.parametrize(
    ("name", "active_billions"),
    [
        ("mixtral-8x7b", 12.88),
        ("qwen1.5-moe-a2.7b", 2.69),  # its name says 2.7
        ("qwen3-30b-a3b", 3.35),  # 3.3 on its model card
        (
            "deepseek-v2-lite",
            2.66,
        ),  # 2.4 without the embedding and head of 0.42
        ("deepseek-v3", 37.55),  # 37 on its model card
        ("qwen3-8b", 8.19),
    ],
)
def test_active_parameters(name, active_billions):
    """What one token uses is what the makers say, rounded."""
    assert active_billions == pytest.approx(
        architecture(name).active_parameters / 1e9, abs=0.005
    )


@pytest.mark.parametrize("name", COUNTED)
def test_one_rank_holds_everything(name):
    """On one rank the weights are the parameters, whatever would be copied on more."""
    assert 2 * architecture(name).parameters == architecture(
        name
    ).weights_bytes_per_rank(1, "bfloat16")


def test_ranks_beyond_the_heads_copy_keys_and_values():
    """With 8 ranks and 4 key-value heads each head lies on two ranks."""
    four = architecture("qwen3-30b-a3b")
    # Keys and values of 48 layers: 2 x 4 heads x 128 x 2048, which four of
    # eight ranks hold a second time.
    keys_and_values = 48 * 2 * 4 * 128 * 2048

    extra = 8 * four.weights_bytes_per_rank(
        8, "bfloat16"
    ) - 8 * _without_copies(four)

    assert 2 * keys_and_values == pytest.approx(extra)
    assert four.kv_bytes_per_token(
        "bfloat16"
    ) / 4 == four.kv_bytes_per_token_per_rank(8, "bfloat16")


def _without_copies(four):
    copied = four.group_parameters("router") + four.group_parameters("norms")
    return 2 * (copied + (four.parameters - copied) / 8)


def test_latent_cache_is_not_split():
    """DeepSeek-V3 keeps 512 + 64 values per layer and token, on every rank."""
    deepseek = architecture("deepseek-v3")

    # 61 x 576 x 2 bytes
    assert 70_272 == deepseek.kv_bytes_per_token("bfloat16")
    assert 70_272 == deepseek.kv_bytes_per_token_per_rank(8, "bfloat16")


def test_spreading_experts_alone_copies_the_rest():
    """With data-parallel attention each of two ranks holds Mixtral's 3.2 GB of shared weights."""
    mixtral = CATALOGUE["mixtral-8x7b"].architecture

    both = 2 * mixtral.weights_bytes_per_rank_data_parallel(2, "bfloat16")

    # 1,605,636,096 x 2 bytes
    assert 3.211e9 == pytest.approx(both - 2 * mixtral.parameters, rel=1e-3)


@pytest.mark.parametrize(
    ("batch", "ratio"),
    [(1, 1.7), (2, 2.8), (4, 4.3), (8, 5.6), (32, 6.2), (64, 6.2)],
)
def test_bytes_of_a_step_over_the_dense_models(batch, ratio):
    """A sparse step reads more of the model as the batch grows: up to 6.2 times the dense one."""
    sparse, dense = (
        CATALOGUE[n].architecture for n in ("mixtral-8x7b", "llama-3.1-8b")
    )
    read = [
        a.step_bytes_per_rank(1, "bfloat16", batch) for a in (sparse, dense)
    ]

    assert ratio == pytest.approx(read[0] / read[1], abs=0.05)


def test_a_step_of_one_token():
    """One token reads 25.5 GB of Mixtral and 15.0 GB of Llama: the input embedding is not read."""
    read = [
        CATALOGUE[n].architecture.step_bytes_per_rank(1, "bfloat16", 1)
        for n in ("mixtral-8x7b", "llama-3.1-8b")
    ]

    assert [25.5, 15.0] == [round(size / 1e9, 1) for size in read]


def test_tied_head_is_read():
    """Where the head is the embedding, it is read whole at each step."""
    tied = architecture("llama-3.2-1b")

    assert 2 * tied.parameters == tied.step_bytes_per_rank(1, "bfloat16", 1)


def test_context_is_read_with_the_weights():
    """Each sequence's KV cache is read once a step."""
    dense = CATALOGUE["llama-3.1-8b"].architecture

    more = dense.step_bytes_per_rank(
        2, "bfloat16", 32, 1000
    ) - dense.step_bytes_per_rank(2, "bfloat16", 32)

    # 32 sequences x 1,000 tokens x 131,072 bytes over two ranks
    assert 32 * 1000 * 65_536 == more


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        (
            "deepseek-v3",
            {"quantization_config": {"quant_method": "quark"}},
            r"quantization_config.*'quark'",
        ),
        ("mistral-7b-v0.3", {"sliding_window": -1}, "sliding_window is -1"),
        (
            "llama-3.1-8b",
            {"layer_types": ["full_attention", "chunked_attention"]},
            "layer_types.*chunked_attention",
        ),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq is 2"),
        ("deepseek-v2-lite", {"mlp_bias": True}, "mlp_bias"),
        ("qwen3-30b-a3b", {"hidden_size": "2048"}, "hidden_size"),
        ("llama-3.1-8b", {"model_type": "llama4"}, "model_type is 'llama4'"),
    ],
)
def test_what_is_not_understood_is_refused(name, changes, seen):
    """A field that changes the arithmetic is named with its value, and the file with it."""
    with pytest.raises(UnknownArchitecture, match=seen) as error:
        architecture(name, **changes)
    assert f"{name}/config.json" in error.value.tried


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("mixtral-8x7b", "num_local_experts"),
        ("qwen2.5-7b", "intermediate_size"),
        ("qwen3-30b-a3b", "moe_intermediate_size"),
        ("qwen1.5-moe-a2.7b", "shared_expert_intermediate_size"),
        ("deepseek-v3", "first_k_dense_replace"),
        ("deepseek-v2-lite", "q_lora_rank"),
    ],
)
def test_missing_field_of_each_family_is_named(name, field):
    """No family's field is guessed."""
    config = {
        key: value
        for key, value in COUNTED[name]["config"].items()
        if key != field
    }

    with pytest.raises(UnknownArchitecture, match=f"{field} is missing"):
        parse_config(config, "x/config.json")


def test_llama_without_kv_heads_has_one_for_each_head():
    """Llama 2's first files do not name them."""
    config = {
        k: v
        for k, v in COUNTED["llama-3.1-8b"]["config"].items()
        if k != "num_key_value_heads"
    }

    assert 32 == parse_config(config, "x").num_key_value_heads


def test_architecture_travels_as_json():
    """What was parsed is written and read back the same, latent attention too."""
    deepseek = architecture("deepseek-v3")

    assert deepseek == msgspec.json.decode(
        msgspec.json.encode(deepseek), type=type(deepseek)
    )


@pytest.mark.parametrize(
    ("name", "changes", "seen"),
    [
        ("llama-3.1-8b", {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        (
            "llama-3.1-8b",
            {"num_key_value_heads": 0},
            "num_key_value_heads is 0",
        ),
        ("qwen3-30b-a3b", {"num_experts": 0}, "num_experts is 0"),
        (
            "qwen3-30b-a3b",
            {"num_experts_per_tok": 200},
            "num_experts_per_tok is 200: there are 128 experts",
        ),
        (
            "qwen3-30b-a3b",
            {"num_experts_per_tok": 0},
            "num_experts_per_tok is 0",
        ),
        (
            "qwen3-30b-a3b",
            {"decoder_sparse_step": 0},
            "decoder_sparse_step is 0",
        ),
        ("llama-3.1-8b", {"quantization_config": ["fp8"]}, "no table"),
        ("llama-3.1-8b", {"hidden_size": True}, "hidden_size is True"),
    ],
)
def test_impossible_values_are_refused(name, changes, seen):
    """With the field, its value, and the file."""
    with pytest.raises(UnknownArchitecture, match=seen):
        architecture(name, **changes)


def test_stored_shapes_are_checked_too():
    """A shape in a run's results is no guess either."""
    stored = msgspec.to_builtins(architecture("qwen3-30b-a3b"))

    with pytest.raises(msgspec.ValidationError, match="200, of 128 experts"):
        msgspec.convert(
            stored | {"num_experts_per_tok": 200},
            type(architecture("qwen3-8b")),
        )


def test_layers_travel_as_json():
    """Those that are told one by one, with their formats, as well."""
    shape = shape_of("gpt-oss-20b")

    assert shape == msgspec.json.decode(
        msgspec.json.encode(shape), type=type(shape)
    )
