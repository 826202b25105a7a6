"""Other options: the studies that any options make of some servers."""

from pathlib import Path

import pytest

from perfgate.config.config import Config
from perfgate.config.other_options import other_sessions
from perfgate.judge.baseline_store import Store
from tests.support.studies import SHIPPED, study_of

PAIR = study_of("h200", "vllm").models


@pytest.fixture
def studies():
    """The studies of every session with the shipped pair on vLLM."""
    config = Config(
        run_dir=Path("run"),
        store=Store(Path("baselines")),
        platforms=("h200",),
        engines=("vllm",),
    )
    sessions = other_sessions(config, SHIPPED, PAIR)
    return [study for session in sessions for study in session]


def test_each_model_is_measured_alone_and_with_the_other(studies):
    """And no model that the servers do not serve."""
    model, reference = (server.model for server in PAIR)

    assert {"large", model, reference, f"{reference}:{model}"} == {
        study.pair for study in studies
    }


def test_every_kind_of_option_is_given_and_left_out(studies):
    """The loads of data sets as those in their place, deep loads, graded ones."""
    rates = {study.rates[0].name for study in studies}
    deep = {tuple(study.deep) for study in studies}
    graded = {study.accuracy is not None for study in studies}
    formats = {study.model.load_format for study in studies}

    assert {"sharegpt-rate-1", "synthetic-rate-1"} == rates
    assert {(), ("saturation", "prefix", "speculative")} == deep
    assert {True, False} == graded
    assert {"auto", "dummy"} == formats


def test_models_are_on_as_many_ranks_as_the_servers(studies):
    """Or on as many as the study says."""
    assert {2} == {study.model.tensor_parallel_size for study in studies}
