"""Claims: what was published about a pair of models, with the arithmetic's own figures."""

from __future__ import annotations

from perfgate.models.catalogue import Architecture
from perfgate.models.estimate import Claim, quantities
from perfgate.study.reader import StudyFile


def claims(
    study: StudyFile, architecture: Architecture, beside: Architecture
) -> tuple[Claim, ...]:
    """What the study has about this very pair; about any other there is nothing."""
    found = []
    for row in study.claims:
        pair = study.pairs[row.pair]
        shapes = tuple(
            study.models[name].architecture for name in (pair.sparse, pair.dense)
        )
        if shapes == (architecture, beside):
            arithmetic = row.arithmetic.format(**quantities(architecture, beside))
            found.append(Claim(claim=row.claim, holds=row.holds, arithmetic=arithmetic))
    return tuple(found)
