"""Hooks: a conftest.py or another plugin adds engines, models, metrics and cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from perfgate.cases import Case


@pytest.hookspec
def pytest_perfgate_engines(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Return engines to register, each a `perfgate.engines.base.Engine`.

    An engine with the name of a known one replaces it.
    """


@pytest.hookspec
def pytest_perfgate_models(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Return models to register, each a `perfgate.models.catalogue.Model`.

    A model that a study file can declare needs no hook.
    """


@pytest.hookspec
def pytest_perfgate_metrics(config: pytest.Config) -> Iterable[Any]:  # type: ignore[empty-body]
    """Return metrics to register, each a `Metric` or `CustomMetric` of `perfgate.load.metrics`.

    `CustomMetric.compute` is called for every repetition. It gets the
    repetition's requests (`perfgate.load.repetition.RequestRow`) and its
    duration in seconds, and returns None if the metric cannot be computed.
    `family` chooses the target effect: one of `perfgate.load.metrics.FAMILIES`.
    """


@pytest.hookspec
def pytest_perfgate_cases(
    subject: Any, question: str, cases: list[Case]
) -> None:
    """Change the cases of a question in place: add, remove, or make them report-only.

    Args:
        subject: the `perfgate.study.Study`, or the `perfgate.study.Versus` of two
            engines.
        question: name of the test function.
        cases: its cases on this platform and engine.
    """


@pytest.hookspec(firstresult=True)
def pytest_perfgate_progress(config: pytest.Config) -> Any:
    """Return an object with `line`, `step` and `share` that shows the progress of a session.

    Returns:
        a `perfgate.progress.ProgressDisplay`; the default one writes to
            pytest's terminal.
    """
