"""Selection: the pairs and single models that a session measures, by --pair and --model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from perfgate import formatting
from perfgate.study.reader import StudyFile
from perfgate.study.schema import PairTable
from perfgate.study.toml_file import BadStudy


@dataclass(frozen=True)
class Subject:
    """A pair of models, or one model that is measured alone.

    Attributes:
        name: of the pair; "MODEL:REFERENCE" of one that the file does not declare, or
            the model's name.
        models: the model, and the reference that it is compared with.
    """

    name: str
    models: tuple[str, ...]


def subjects_of(file: StudyFile, platform: str) -> tuple[Subject, ...]:
    """The pairs and single models that a platform names."""
    table = file.platforms[platform]
    pairs = [_declared(name, file.pairs[name]) for name in table.pairs]
    models = [Subject(name, (name,)) for name in table.models]
    return (*pairs, *models)


def select(
    file: StudyFile, pairs: Iterable[str], models: Iterable[str]
) -> tuple[Subject, ...]:
    """The pairs and single models that options name.

    Args:
        file: the study file.
        pairs: each the name of a pair, or "MODEL:REFERENCE" of any two models.
        models: names of models.

    Raises:
        BadStudy: the file declares no such pair or model, or the model is not served.
    """
    subjects: dict[Subject, None] = {}
    for text in pairs:
        subjects[_pair(file, text)] = None
    for name in models:
        _check_model(file, name, f"--model {name}")
        subjects[Subject(name, (name,))] = None
    return tuple(subjects)


def _pair(file: StudyFile, text: str) -> Subject:
    model, colon, reference = text.partition(":")
    if colon:
        for name in (model, reference):
            _check_model(file, name, f"--pair {text}")
        if model == reference:
            raise BadStudy(
                tried=f"--pair {text}",
                seen="it compares a model with itself",
                remedy=f"name two models, or measure one: --model {model}",
            )
        return _named(file, Subject(text, (model, reference)))
    if text in file.pairs:
        return _declared(text, file.pairs[text])
    names = ", ".join(file.pairs) or "none is declared"
    suggestion = formatting.suggestion(text, file.pairs)
    raise BadStudy(
        tried=f"--pair {text}",
        seen=f"{file.path} declares no such pair",
        remedy=(
            f"{suggestion}use one of {names}, or name two of its models: --pair "
            "MODEL:REFERENCE"
        ),
    )


def _declared(name: str, pair: PairTable) -> Subject:
    return Subject(name, (pair.model, pair.reference))


def _named(file: StudyFile, subject: Subject) -> Subject:
    """The pair under its name in the file, where it has one."""
    for name, pair in file.pairs.items():
        declared = _declared(name, pair)
        if declared.models == subject.models:
            return declared
    return subject


def _check_model(file: StudyFile, name: str, tried: str) -> None:
    model = file.models.get(name)
    if model is None:
        names = ", ".join(file.models) or "none is declared"
        suggestion = formatting.suggestion(name, file.models)
        raise BadStudy(
            tried=tried,
            seen=f"{file.path} declares no model {name!r}",
            remedy=(
                f"{suggestion}use one of {names}, or add a table [models.{name}]"
            ),
        )
    if not model.served:
        raise BadStudy(
            tried=tried,
            seen=f"[models.{name}] in {file.path} says served = false",
            remedy="remove that line to serve the model",
        )
