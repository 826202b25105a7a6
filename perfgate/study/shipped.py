"""The shipped study: paths of its file, its perf tests and its baselines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# pytest finds the shipped perf tests by this name: pytest --pyargs perfgate.study
PACKAGE = "perfgate.study"


@dataclass(frozen=True)
class Shipped:
    """Paths of the shipped study.

    Attributes:
        study: the study file.
        tests: folder of its perf tests, one file per question.
        baselines: folder of recorded and published figures.
    """

    study: Path
    tests: Path
    baselines: Path


def shipped() -> Shipped:
    """The paths in a wheel, in the package; in a checkout, in folders of their own."""
    package = Path(__file__).resolve().parent
    study = package / "builtin" / "study.toml"
    if study.is_file():
        return Shipped(
            study=study,
            tests=package / "tests",
            baselines=package / "baselines",
        )
    checkout = package.parent.parent
    return Shipped(
        study=checkout / "fixtures" / "study.toml",
        tests=checkout / "tests" / "perf",
        baselines=checkout / "baselines",
    )
