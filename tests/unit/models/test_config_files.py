"""config.json: fields that are read, and missing ones named."""

import pytest

from perfgate.models.catalogue import (
    CATALOGUE,
    UnknownArchitecture,
    parse_config,
    read_config,
)

LLAMA = CATALOGUE["llama-3.1-8b"].config


def test_another_family_is_refused_by_name():
    """What is not understood is refused, and named."""
    with pytest.raises(UnknownArchitecture, match="'step3p7'"):
        parse_config({"model_type": "step3p7"}, "x/config.json")


def test_missing_field_is_named():
    """A config.json that lacks a field is an error with file and field."""
    config = dict(LLAMA)
    del config["num_hidden_layers"]

    with pytest.raises(UnknownArchitecture, match="num_hidden_layers"):
        parse_config(config, "x/config.json")


def test_missing_folder_is_named(tmp_path):
    """A folder without config.json is an error that names the file."""
    with pytest.raises(UnknownArchitecture, match=r"nowhere/config\.json"):
        read_config(tmp_path / "nowhere")
