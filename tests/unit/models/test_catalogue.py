"""Model catalogue: the study's models by name."""

import pytest

from perfgate.models.catalogue import CATALOGUE, UnknownModel, lookup


def test_small_models_are_twins():
    """The two small models differ in the sparse layer alone."""
    sparse, dense = (
        CATALOGUE["mixtral-small"].architecture,
        CATALOGUE["llama-small"].architecture,
    )
    shared = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    )

    assert [getattr(sparse, name) for name in shared] == [
        getattr(dense, name) for name in shared
    ]
    assert 5 < sparse.parameters / dense.parameters < 7


def test_only_served_models_are_looked_for():
    """The 70B of the study is there for arithmetic alone."""
    assert ["llama-3.1-70b"] == [
        model.name for model in CATALOGUE.values() if not model.served
    ]


def test_unknown_model_lists_the_catalogue():
    """A misspelt model name is answered with those that exist."""
    with pytest.raises(UnknownModel, match=r"mixtral-8x7b, llama-3\.1-8b"):
        lookup("mixtral")
