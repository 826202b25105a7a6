"""E8: Do the routers still send the tokens to the same experts?"""

from collections.abc import Iterator

import msgspec
import pytest

from perfgate.cases import Case
from perfgate.study import Study


def shares(study: Study) -> Iterator[Case]:
    """Each layer's expert shares against the recorded ones, and the share of the top two.

    Judged on every platform.
    """
    for server in study.routed:
        for metric in ("routing_shares", "routing_top2_share"):
            case = study.value("E8", metric, server, study.routing)
            yield msgspec.structs.replace(case, gate="hard")


def near_uniform(study: Study) -> Iterator[Case]:
    """The busiest and the idlest expert of a layer, over an even share.

    Where nothing is recorded 15 % of it is the published limit; else the recorded values
    count. Judged on GPUs: the small model's routers are random, and were not trained for
    balance.
    """
    for server in study.routed:
        for metric in ("routing_max_over_mean", "routing_min_over_mean"):
            case = study.value("E8", metric, server, study.routing)
            if not study.is_yardstick:
                case = case.report_only
            yield case


def statistics(study: Study) -> Iterator[Case]:
    """Balance, live experts, repeats, and the cost of imbalance under EP; report-only."""
    for server in study.routed:
        for name in (
            "entropy",
            "balancedness",
            "live_experts",
            "repeats_first",
            "repeats_any",
            "ep_cost",
        ):
            metric = f"routing_{name}"
            case = study.value("E8", metric, server, study.routing)
            yield case.report_only


@pytest.mark.perf(cases=shares)
def test_expert_shares(check, case):
    """In each layer the expert shares are as before, and the router has not collapsed."""
    check(case)


@pytest.mark.perf(cases=near_uniform)
def test_uniform_guard(check, case):
    """No expert is further from its even share than before, or else than 15 %."""
    check(case)


@pytest.mark.perf(cases=statistics)
def test_routing_figures(check, case):
    """The statistics of the routing are as before."""
    check(case)
