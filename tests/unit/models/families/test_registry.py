"""Model families: parameters of published models vs `transformers`, for every reader."""

import pytest

from perfgate.engines import environment
from perfgate.models.families.registry import READERS, TEXT_PARTS
from tests.support.model_configs import MODELS, published_parameters, shape_of
from tools.record_parameter_counts import counts

# Readers that others of the same kind are tested for.
LIKE_OTHERS = {
    "llama": "test_architecture",
    "mistral": "test_architecture",
    "mixtral": "test_architecture",
    "qwen2": "test_architecture",
    "qwen2_moe": "test_architecture",
    "qwen3": "test_architecture",
    "qwen3_moe": "test_architecture",
    "deepseek_v2": "test_architecture",
    "granite": "llama",
    "smollm3": "llama",
    "ministral3": "mistral",
    "minimax_m3_vl_text": "minimax_m3",
    "glm4v_moe_text": "glm4_moe",
}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_counted(name):
    """The count equals the one that transformers gives, to the last parameter."""
    assert published_parameters(name) == shape_of(name).parameters


def test_each_config_says_where_it_comes_from():
    """Not every file could be had: the docs' table tells those that were."""
    sources = {"published", "compared", "recalled", "defaults"}

    assert sources == {row["source"] for row in MODELS.values()}


@pytest.mark.engine
def test_transformers_still_counts_so():
    """The stored counts are those of the engine's own transformers."""
    python = environment.find_python("vllm", "cpu", {}).path

    counted = counts({n: row["config"] for n, row in MODELS.items()}, python)

    assert {n: row["parameters"] for n, row in MODELS.items()} == counted


def test_every_reader_is_tested():
    """Each family has a published model here, or is read like one that has."""
    read = {shape_of(name).model_type for name in MODELS}

    assert set(READERS) == read | LIKE_OTHERS.keys()


def test_text_parts_have_readers():
    """The text part of each model that sees pictures is of a family with a reader."""
    assert set(TEXT_PARTS.values()) <= set(READERS)
