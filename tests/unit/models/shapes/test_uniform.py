"""Uniform decoders: layers made of the architecture's own fields."""

from perfgate.models.shapes.uniform import draft_of, uniform_stack
from tests.support.model_configs import shape_of
from tests.support.studies import SHIPPED

MIXTRAL = SHIPPED.models["mixtral-8x7b"].architecture


def test_all_layers_of_mixtral_are_alike():
    """One kind, 32 times."""
    told = uniform_stack(MIXTRAL)

    assert [(32, "full", "sparse")] == [
        (times, layer.attention, layer.feed_forward)
        for times, layer in told.counted()
    ]


def test_a_draft_is_a_layer_and_a_projection():
    """DeepSeek-V3's has 11.6 B parameters, without the embedding and head that it shares."""
    deepseek = shape_of("deepseek-v3-fp8")
    layer = deepseek.layers[-1]
    hidden = deepseek.hidden_size

    draft = draft_of(layer, hidden, depth=1)

    assert deepseek.draft_parameters == sum(t.parameters for t in draft)
    assert 11.6 == round(deepseek.draft_parameters / 1e9, 1)
    assert () == draft_of(layer, hidden, depth=0)
