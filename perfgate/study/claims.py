"""Claims: published statements about a pair of models, with computed figures."""

from __future__ import annotations

from perfgate.models.catalogue import Architecture
from perfgate.models.estimate import Claim, quantities
from perfgate.study.reader import StudyFile


def claims(
    study: StudyFile, sparse: Architecture, dense: Architecture
) -> tuple[Claim, ...]:
    """The study's claims about this pair of shapes."""
    claims_of_pair = []
    for row in study.claims:
        pair = study.pairs[row.pair]
        pair_sparse = study.models[pair.model].architecture
        pair_dense = study.models[pair.reference].architecture
        if (pair_sparse, pair_dense) != (sparse, dense):
            continue
        figures = quantities(sparse, dense)
        arithmetic = row.arithmetic.format(**figures)
        claim = Claim(claim=row.claim, holds=row.holds, arithmetic=arithmetic)
        claims_of_pair.append(claim)
    return tuple(claims_of_pair)
