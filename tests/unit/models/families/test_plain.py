"""Plain families: windows, order of layers, drafts."""

import pytest

from perfgate.models.catalogue import parse_config
from tests.support.model_configs import shape_of
from tests.support.studies import SHIPPED


def config(**changes):
    """Llama-3.1-8B's fields, and others."""
    return SHIPPED.models["llama-3.1-8b"].config | changes


def test_published_models_of_the_study_need_no_layers():
    """Their own fields tell all, so that what is stored stays as it is."""
    for model in SHIPPED.models.values():
        if model.architecture.model_type in ("llama", "mixtral"):
            assert model.architecture.stack is None


def test_a_window_bounds_the_cache_of_its_layers():
    """Mistral's first models see 4,096 tokens; the cache does not grow beyond."""
    windowed = parse_config(
        config(model_type="mistral", sliding_window=4096), "x"
    )

    assert {"window"} == {layer.attention for layer in windowed.layers}
    assert 0 == windowed.kv_bytes_per_token("bfloat16")
    assert 131_072 * 4096 == windowed.cache_bytes_per_sequence(
        100_000, "bfloat16"
    )


def test_a_window_as_long_as_the_context_is_none():
    """It never matters."""
    same = parse_config(
        config(model_type="mistral", sliding_window=131_072), "x"
    )

    assert same.stack is None


def test_windows_of_qwen_begin_at_a_layer():
    """And only where they are used."""
    fields = config(
        model_type="qwen2",
        use_sliding_window=True,
        sliding_window=4096,
        max_window_layers=30,
    )

    kinds = [layer.attention for layer in parse_config(fields, "x").layers]
    unused = parse_config(fields | {"use_sliding_window": False}, "x")

    assert ["full"] * 30 + ["window"] * 2 == kinds
    assert unused.stack is None


@pytest.mark.parametrize(
    ("name", "billions"),
    [("deepseek-v3-fp8", 11.6), ("glm-4.5-air", 2.4), ("kimi-k2", 0)],
)
def test_drafts_are_counted_apart(name, billions):
    """Engines load them only on request, so they are in no other number."""
    assert billions == round(shape_of(name).draft_parameters / 1e9, 1)


def test_files_of_deepseek_hold_the_draft_too():
    """The published files are 688,586,727,753 bytes long.

    They hold the model, its draft with copies of embedding and output head, and headers.
    """
    shape = shape_of("deepseek-v3-fp8")
    copies = 2 * 129_280 * 7168 * 2

    computed = shape.weights_bytes("bfloat16")
    computed += shape.draft_bytes("bfloat16") + copies

    assert 688_586_727_753 == pytest.approx(computed, rel=1e-4)
