"""Studies of a configuration: what options change reaches every one of them."""

import json

import pytest

from perfgate import locations
from perfgate.config.config import Config
from perfgate.config.studies import selected_studies
from perfgate.judge.baseline_store import Store
from perfgate.load.frozen import freeze
from perfgate.load.prompts import WORDS, ShareGPT
from tests.support.studies import SHIPPED


@pytest.fixture
def config(tmp_path):
    """A configuration of a session on GPUs with both engines."""
    locations.use(locations.default_locations(tmp_path))

    def make(**fields):
        return Config(
            run_dir=tmp_path / "run",
            store=Store(tmp_path / "baselines"),
            platforms=("gpu",),
            engines=("vllm", "sglang"),
            **fields,
        )

    return make


def test_both_engines_get_one_load(config, tmp_path):
    """The conversations of the data set at every rate, under names that say so."""
    turns = [{"value": "one two three four"}, {"value": "five six seven eight"}]
    path = tmp_path / "chats.json"
    path.write_text(json.dumps([{"conversations": turns}] * 20))
    spec = ShareGPT(path=str(path), tokenizer=WORDS)
    drawn = freeze("sharegpt", spec, tmp_path / "drawn.jsonl")
    given = {"sharegpt": drawn.path}
    studies = list(selected_studies(config(datasets=given), SHIPPED))

    assert ["vllm", "sglang"] == [study.engine for study in studies]
    for study in studies:
        assert {drawn} == {rate.prompts for rate in study.rates}
        assert "sharegpt-rate-1" == study.rates[0].name


def test_without_the_file_lengths_are_drawn(config):
    """Under names that say so, too."""
    for study in selected_studies(config(), SHIPPED):
        names = [rate.name for rate in study.rates]
        assert [f"synthetic-rate-{rate}" for rate in (1, 2, 4, 8)] == names


def test_options_reach_every_study(config):
    """Ranks, weights and the load that is kept up."""
    chosen = config(
        tensor_parallel_size=1, load_format="dummy", soak_minutes=3.0
    )
    for study in selected_studies(chosen, SHIPPED):
        assert (1, "dummy", 3.0) == (
            study.model.tensor_parallel_size,
            study.model.load_format,
            study.soak_minutes,
        )
