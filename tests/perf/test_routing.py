"""E8: Do the tokens still go to the experts that they went to?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def shares(study: Study) -> Iterator[Case]:
    """Each layer's shares beside the recorded ones, and whether two experts take nearly all; judged everywhere."""
    if study.moe_routing is not None:
        for metric in ("routing_shares", "routing_top2_share"):
            case = study.value("E8", metric, study.moe_routing, study.routing)
            yield msgspec.structs.replace(case, gate="hard")


def near_uniform(study: Study) -> Iterator[Case]:
    """The published guard: every expert of every layer within 15 % of its even share.

    Judged on GPUs: the small model's routers are random, and were never trained to be
    even.
    """
    if study.moe_routing is not None:
        for metric in ("routing_max_over_mean", "routing_min_over_mean"):
            yield study.value("E8", metric, study.moe_routing, study.routing)


def spread(study: Study) -> Iterator[Case]:
    """How even, how alive, how repetitive, and what the imbalance would cost under expert parallelism; reported."""
    if study.moe_routing is not None:
        for name in (
            "entropy",
            "balancedness",
            "live_experts",
            "repeats_first",
            "repeats_any",
            "ep_cost",
        ):
            case = study.value(
                "E8", f"routing_{name}", study.moe_routing, study.routing
            )
            yield msgspec.structs.replace(case, gate="report")


@pytest.mark.perf(cases=shares)
def test_expert_shares(check, case):
    """In each layer the tokens go where they went, and the router has not collapsed."""
    check(case)


@pytest.mark.perf(cases=near_uniform)
def test_uniform_guard(check, case):
    """No expert has more or less than 15 % beside its even share."""
    check(case)


@pytest.mark.perf(cases=spread)
def test_routing_figures(check, case):
    """What the shares amount to."""
    check(case)
