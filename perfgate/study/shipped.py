"""The shipped study: where its file, its perf tests and its baselines lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The name under which pytest finds the shipped perf tests: pytest --pyargs
# perfgate.study
PACKAGE = "perfgate.study"


@dataclass(frozen=True)
class Shipped:
    """Paths of what is shipped.

    Attributes:
        study: the study file.
        tests: folder of its perf tests, one file a question.
        baselines: recorded and published figures.
    """

    study: Path
    tests: Path
    baselines: Path


def shipped() -> Shipped:
    """In a wheel beside this module; in a checkout where they are edited."""
    here = Path(__file__).resolve().parent
    if (here / "builtin" / "study.toml").is_file():
        return Shipped(
            here / "builtin" / "study.toml", here / "tests", here / "baselines"
        )
    checkout = here.parent.parent
    return Shipped(
        checkout / "fixtures" / "study.toml",
        checkout / "tests" / "perf",
        checkout / "baselines",
    )
