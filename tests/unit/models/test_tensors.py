"""Tensors of made models: names by the engine, values by name, layers that differ."""

import json
import sys

import pytest
from safetensors.numpy import load_file

from perfgate.engines import environment
from perfgate.models import tensors
from perfgate.models.catalogue import CATALOGUE
from perfgate.models.made import make
from perfgate.models.tensors import UnknownTensors, list_tensors, write
from tests.support.checkpoints import TINY, quiet, tiny

FAMILY = {
    "model_type": "qwen3_moe",
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "max_position_embeddings": 128,
    **TINY,
}


def engine_that_lists(tmp_path, shapes, status=0):
    """A Python that answers the script with these tensors."""
    script = tmp_path / "python"
    answer = json.dumps(shapes)
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.stderr.write('noise\\nKeyError: oh')\n"
        f"sys.stdout.write({answer!r})\nsys.exit({status})\n"
    )
    script.chmod(0o755)
    return script


def test_layers_differ(tmp_path):
    """No two layers have the same router, or routing could not be told apart."""
    folder = make(tiny("mixtral-small"), tmp_path / "m", quiet)
    gates = []
    for layer in (0, 1):
        values = load_file(folder / f"model-{layer + 1:05d}.safetensors")
        gates.append(
            values[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        )

    assert (gates[0] != gates[1]).any()


def test_any_family_gets_one_file_a_layer(tmp_path):
    """The engine's list decides names and shapes; the index names every file."""
    shapes = {
        "model.embed_tokens.weight": [64, 32],
        "model.layers.0.mlp.gate.weight": [6, 32],
        "model.layers.1.mlp.gate.weight": [6, 32],
        "model.layers.1.mlp.gate.bias": [6],
        "model.norm.weight": [32],
    }
    index = write(FAMILY, tmp_path, 7, engine_that_lists(tmp_path, shapes))
    found = {}
    for file in tmp_path.glob("*.safetensors"):
        for name, value in load_file(file).items():
            found[name] = (list(value.shape), file.name)

    assert shapes == {name: shape for name, (shape, _) in found.items()}
    assert index["weight_map"] == {
        name: file for name, (_, file) in found.items()
    }
    assert 3 == len(set(index["weight_map"].values()))
    assert (
        4 * (2 * 6 * 32 + 64 * 32 + 6 + 32) == (index["metadata"]["total_size"])
    )


def test_values_follow_the_kind_of_tensor():
    """Norms are 1, biases 0, a router's columns spread so that experts differ."""
    router = tensors._named_values("layers.0.mlp.gate.weight", (16, 4096), 1)
    matrix = tensors._named_values("layers.0.mlp.up_proj.weight", (512, 512), 1)

    assert (1 == tensors._named_values("layers.0.q_norm.weight", (8,), 1)).all()
    assert (0 == tensors._named_values("layers.0.q_proj.bias", (8,), 1)).all()
    assert 1 == pytest.approx(router.std() * 4096**0.5, rel=0.05)
    assert 0.02 == pytest.approx(matrix.std(), rel=0.05)
    assert 0 == pytest.approx(matrix.mean(), abs=0.001)


def test_values_depend_on_name_and_seed_alone():
    """Another machine, order or number of threads draws the same; the bytes never change."""
    first = tensors._named_values("layers.0.mlp.up_proj.weight", (2, 3), 1)
    other = tensors._named_values("layers.1.mlp.up_proj.weight", (2, 3), 1)

    assert [-871, -32818, 11126] == (first.ravel()[:3] * 1e6).round().tolist()
    assert (first != other).all()


def test_without_an_engine_it_says_so(tmp_path):
    """Nobody lists the tensors of this family: the remedy is a command."""
    with pytest.raises(UnknownTensors, match="perfgate engines install"):
        write(FAMILY, tmp_path, 1, None)


def test_an_engine_that_does_not_know_the_family_is_quoted(tmp_path):
    """The last line of its error is shown, with the file and the Python."""
    python = engine_that_lists(tmp_path, {}, status=1)

    with pytest.raises(UnknownTensors, match=r"(?s)config\.json.*KeyError: oh"):
        list_tensors(tmp_path / "config.json", python)


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"model.layers.1.mlp.experts.5.up_proj.weight": (16, 32)}),
        (
            {"model_type": "gpt_oss", "num_local_experts": 6},
            {"model.layers.1.mlp.experts.gate_up_proj_bias": (6, 96)},
        ),
    ],
)
def test_real_engines_list_what_is_published(
    tmp_path, engine, changes, expected
):
    """Experts stand one by one or fused, as the family publishes them."""
    (tmp_path / "config.json").write_text(json.dumps(FAMILY | changes))
    python = environment.find_python(engine, "cpu", {}).path

    listed = list_tensors(tmp_path / "config.json", python)

    assert expected == {name: listed[name] for name in expected}
    assert (64, 32) == listed["lm_head.weight"]


@pytest.mark.engine
def test_tied_heads_are_listed_once(tmp_path):
    """A tied head is the embedding, which alone is in the files."""
    config = FAMILY | {"tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    python = environment.find_python("vllm", "cpu", {}).path

    listed = list_tensors(tmp_path / "config.json", python)

    assert "model.embed_tokens.weight" in listed
    assert "lm_head.weight" not in listed


@pytest.mark.engine
@pytest.mark.parametrize("base", ["mixtral-small", "llama-small"])
def test_recipe_1_lists_what_the_engine_lists(tmp_path, base):
    """What is listed here without an engine is what an engine's transformers saves."""
    config = tiny(base).config
    (tmp_path / "config.json").write_text(json.dumps(config))
    python = environment.find_python("vllm", "cpu", {}).path

    listed = list_tensors(tmp_path / "config.json", python)

    shapes = {}
    for shard in tensors._listed_shards(config):
        shapes |= shard
    assert shapes == listed


def test_llama_of_the_catalogue_needs_no_engine():
    """The small models are made where no engine is installed yet."""
    for name in ("llama-small", "mixtral-small"):
        assert 1 == tensors.recipe(CATALOGUE[name].config, 1)["recipe"]
