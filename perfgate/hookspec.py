"""Hooks: how a conftest.py or another plugin adds engines, models, metrics and cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from perfgate.cases import Case


@pytest.hookspec
def pytest_perfgate_engines(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Engines to enter, each a `perfgate.engines.base.Engine`.

    One that has the name of a known engine replaces it.
    """


@pytest.hookspec
def pytest_perfgate_models(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Models to enter in the catalogue, each a `perfgate.models.catalogue.Model`.

    A model that a study file can declare needs no hook.
    """


@pytest.hookspec
def pytest_perfgate_metrics(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Metrics to declare, each a `perfgate.load.metrics.Metric`.

    One with `compute` is worked out of every repetition; it gets the repetition's
    requests (`perfgate.load.repetition.RequestRow`) and its duration in seconds, and
    returns None where it has none. `family` chooses the loss that is promised to be
    caught: one of `perfgate.load.metrics.FAMILIES`.
    """


@pytest.hookspec
def pytest_perfgate_cases(subject: Any, question: str, cases: list[Case]) -> None:
    """Change the cases of a question in place: add some, remove some, or make them report-only.

    Args:
        subject: the `perfgate.study.Study`, or the `perfgate.study.Versus` of two
            engines.
        question: name of the test function that asks.
        cases: what it asks on this platform and engine.
    """


@pytest.hookspec(firstresult=True)
def pytest_perfgate_progress(config: pytest.Config) -> Any:
    """What shows the progress of a session: an object with `line` and `step`.

    Returns:
        a `perfgate.progress.ProgressDisplay`; the plugin's own writes to pytest's terminal.
    """
