"""Policy: the target effect of each kind of metric on each kind of machine.

A target effect is the loss that the gate must catch. `perfgate.judge.noise` has the
statistics that tell whether the recorded launches can detect it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from perfgate.cases import Case, GateMode
from perfgate.load.ceilings import EVERY_RATE
from perfgate.load.metrics import Family, family_of
from perfgate.load.workload import Arrivals


@dataclass(frozen=True)
class Policy:
    """The target effect of one kind of metric on one kind of machine.

    Attributes:
        smallest: the target effect never is less, however quiet the launches were:
            context (driver, clocks) changes values by that much.
        fail_over: the ceiling: a case passes only where a loss above this is excluded.
            The threshold is no larger, as far as the noise permits.
        floor: a loss below this, in the metric's unit, never is a regression.
        assumed_cv: launch-to-launch variation (CV) where neither the launches nor the
            store tell it.
        paired: target effect of three pairs of base and candidate, which do not tell
            how quiet the machine is.
        fixed_cv: counts in place of the launches' own variation, where launches are in
            one of two states and no noise.
        gate: "report" where the metric is never judged there.
        firm: whether no baseline's own target effect may be smaller: what is measured
            depends on more than the engines, and the recorded launches do not show it.

    """

    smallest: float
    fail_over: float
    floor: float
    assumed_cv: float
    paired: float
    gate: GateMode = "hard"
    fixed_cv: float | None = None
    firm: bool = False


GPU_RATE = Policy(
    smallest=0.02, fail_over=0.05, floor=0.0, assumed_cv=0.011, paired=0.05
)
# Single-stream TTFT is the server's own Python: launches of one H200 vary by 6
# %, of one H100 by 15 %.
GPU_TTFT = Policy(
    smallest=0.05, fail_over=0.10, floor=3.0, assumed_cv=0.10, paired=0.10
)
# The TTFT of a long prompt is the GPU's work: two clients agree on it within 2 %.
GPU_PREFILL = Policy(
    smallest=0.02, fail_over=0.05, floor=1.0, assumed_cv=0.011, paired=0.05
)
# Energy for a token: of eight H200 four take 6 to 15 % more than the others, whatever
# they serve; launches of one of them agree within 1 to 2 %.
GPU_ENERGY = Policy(
    smallest=0.05, fail_over=0.10, floor=0.0, assumed_cv=0.05, paired=0.05
)
GPU_TAIL = Policy(
    smallest=0.15,
    fail_over=0.20,
    floor=3.0,
    assumed_cv=0.06,
    paired=0.20,
    gate="report",
)
# After one recorded launch a ratio of single streams is known to 30 %.
CPU_RATIO = Policy(
    smallest=0.15, fail_over=0.35, floor=0.0, assumed_cv=0.07, paired=0.15
)
# The slowest tenth of whole answers: launches of one H200 vary by 1 to 2 %, of two by 3
# to 4 %.
GPU_E2EL_TAIL = Policy(
    smallest=0.05, fail_over=0.10, floor=0.0, assumed_cv=0.02, paired=0.10
)
# Shared cores: 65 % of the target effect, as a logarithm, is half of the recorded rate,
# and twice the recorded time. Of all launches that were recorded on two kinds of CPU
# none is worse than 1.29 times the others (docs/error-rates.md).
CPU_THROUGHPUT = Policy(
    smallest=0.66, fail_over=0.66, floor=0.0, assumed_cv=0.08, paired=0.15
)
CPU_LATENCY = Policy(
    smallest=1.95, fail_over=1.95, floor=0.0, assumed_cv=0.10, paired=0.15
)
# A launch of the TTFT was 1.43 times the others.
CPU_TTFT = Policy(
    smallest=2.20, fail_over=2.20, floor=0.0, assumed_cv=0.12, paired=0.15
)
CPU_ABSOLUTE = Policy(
    smallest=0.15,
    fail_over=0.50,
    floor=0.0,
    assumed_cv=0.06,
    paired=0.15,
    gate="report",
)
# The first start on a machine compiles: it took up to 2.8 times as long as the others.
# 65 % of the target effect, as a logarithm, is 3.5 times the recorded time.
START_UP = Policy(
    smallest=5.9,
    fail_over=5.9,
    floor=100.0,
    assumed_cv=0.15,
    paired=0.50,
    fixed_cv=0.15,
)
# Cold starts against cold ones, or warm against warm: 65 % of it, as a logarithm, is 1.6
# times the recorded time.
START_UP_ALIKE = Policy(
    smallest=1.0,
    fail_over=1.0,
    floor=20.0,
    assumed_cv=0.15,
    paired=0.50,
    fixed_cv=0.10,
)
# Cold starts of unchanged builds took 45 and 78 s on two H200, and 60 to 106 s on one:
# what the machine has read and compiled before differs.
START_UP_COLD = dataclasses.replace(START_UP_ALIKE, fixed_cv=0.20)
# On a CPU a server starts in half a minute, and nothing is compiled.
START_UP_CPU = dataclasses.replace(START_UP, floor=30.0)
# A leak adds up; a server that keeps what it needs grows by what it did when recorded.
MEMORY_GROWTH = Policy(
    smallest=0.05, fail_over=0.10, floor=0.0, assumed_cv=0.01, paired=0.05
)
# The prompts fix what a cache can hit; which drafts are accepted varies with the batch.
HIT_RATE = Policy(
    smallest=0.03, fail_over=0.05, floor=0.0, assumed_cv=0.01, paired=0.03
)
# Greedy answers of one model repeat but for a few that turn at a tie.
ACCURACY = Policy(
    smallest=0.03, fail_over=0.05, floor=0.0, assumed_cv=0.005, paired=0.03
)
EXACT = Policy(
    smallest=0.02, fail_over=0.05, floor=0.0, assumed_cv=0.001, paired=0.02
)
PEAK = Policy(
    smallest=0.05, fail_over=0.10, floor=0.0, assumed_cv=0.003, paired=0.05
)
# The same prompts take the same ways, but for the few tokens that another sum rounds to
# another expert.
ROUTING = Policy(
    smallest=0.10, fail_over=0.20, floor=0.0, assumed_cv=0.005, paired=0.10
)
# Processes that spin while they wait take a core whatever they do; how much launches vary
# is not recorded yet.
HOST_CPU = Policy(
    smallest=0.05,
    fail_over=0.10,
    floor=0.0,
    assumed_cv=0.05,
    paired=0.10,
    gate="report",
)
# Batches of a model that the caches hold, by two builds in turns: launches of one build
# vary by 0.7 % (docs/error-rates.md).
BATCH = Policy(
    smallest=0.02, fail_over=0.05, floor=0.0, assumed_cv=0.007, paired=0.05
)
# The answers decide, not this value, which several answers hardly move.
ANSWERS = Policy(
    smallest=0.05, fail_over=0.10, floor=0.0, assumed_cv=0.005, paired=0.10
)
# Counts of work are the same in every process (docs/error-rates.md). One operator more
# in a step of the small models is 0.4 to 0.5 %.
WORK = Policy(
    smallest=0.005, fail_over=0.02, floor=0.0, assumed_cv=0.0002, paired=0.005
)
CALLS = Policy(
    smallest=0.01, fail_over=0.02, floor=0.0, assumed_cv=0.0002, paired=0.01
)
_ON_EVERY_MACHINE: Mapping[Family, Policy] = {
    "work": WORK,
    "calls": CALLS,
    "facts": EXACT,
    "start_up": START_UP,
    "routing": ROUTING,
    "answers": ANSWERS,
    "memory_peak": PEAK,
    "memory_growth": MEMORY_GROWTH,
    "hit_rate": HIT_RATE,
    "accuracy": ACCURACY,
    "memory": EXACT,
    "constant": EXACT,
    "host_cpu": HOST_CPU,
    "batch": BATCH,
}
# Every other family is a rate.
_ON_GPUS: Mapping[Family, Policy] = {
    "tail": GPU_TAIL,
    "e2el_tail": GPU_E2EL_TAIL,
    "energy": GPU_ENERGY,
    "ttft": GPU_TTFT,
}
# Absolute values; every other family is report-only.
_ON_CPUS: Mapping[Family, Policy] = {
    "throughput": CPU_THROUGHPUT,
    "bandwidth": CPU_THROUGHPUT,
    "itl": CPU_LATENCY,
    "tpot": CPU_LATENCY,
    "e2el": CPU_LATENCY,
    "ttft": CPU_TTFT,
}
# The label of a CPU: "cpu-amd-epyc-avx512-x2".
CORES = re.compile(r"cpu-.*-x(\d+)")
_TAILS: frozenset[Family] = frozenset({"tail", "e2el_tail"})


# Families whose ceiling `--fail-over 5%` sets; that of any other is set by its name.
RATE_FAMILIES: frozenset[Family] = frozenset(
    {
        "throughput",
        "ttft",
        "itl",
        "tpot",
        "e2el",
        "e2el_tail",
        "tail",
        "bandwidth",
        "custom",
    }
)


def policy_for(
    hardware_label: str,
    metric: str,
    ratio: bool,
    fail_over: Mapping[str, float] | None = None,
    arrivals: Arrivals | None = None,
) -> Policy:
    """The policy by kind of machine, family of the metric, and absolute value or ratio.

    Args:
        hardware_label: "cpu..." or that of GPUs, "h200x2".
        metric: a name in `perfgate.load.metrics.METRICS`; any other counts as "custom".
        ratio: whether the ratio of two values is judged.
        fail_over: ceilings that replace those of the table, by family or EVERY_RATE.
        arrivals: how requests arrive; None where that is not known.
    """
    family = family_of(metric)
    policy = _table_policy(hardware_label, family, ratio)
    if policy is GPU_TTFT and arrivals == "prefill":
        policy = GPU_PREFILL
    ceilings = fail_over or {}
    if family in ceilings:
        return dataclasses.replace(policy, fail_over=ceilings[family])
    if family in RATE_FAMILIES and EVERY_RATE in ceilings:
        return dataclasses.replace(policy, fail_over=ceilings[EVERY_RATE])
    return policy


def policy_of(
    case: Case,
    hardware_label: str,
    fail_over: Mapping[str, float] | None = None,
) -> Policy:
    """The policy of a case; arguments as of `policy_for`.

    Where cores are too few for two engines, their ratio is judged as coarsely as the
    times of one of them.
    """
    crowded = is_crowded(case, hardware_label)
    policy = policy_for(
        hardware_label,
        case.metric,
        case.is_ratio and not crowded,
        fail_over,
        case.numerator.arrivals,
    )
    if crowded:
        return dataclasses.replace(policy, firm=True)
    return policy


def is_crowded(case: Case, hardware_label: str) -> bool:
    """Whether it is a ratio of two engines whose ranks leave no core of this CPU free.

    Ranks spin while they wait. What hands out their steps gets a core when the kernel
    takes one from them, and that depends on the engine, the load and the hour.
    """
    if case.denominator is None:
        return False
    sides = (case.numerator.server, case.denominator.server)
    cores = CORES.match(hardware_label)
    if cores is None or sides[0].engine == sides[1].engine:
        return False
    return int(cores[1]) < max(side.ranks for side in sides) + 1


def _table_policy(hardware_label: str, family: Family, ratio: bool) -> Policy:
    is_cpu = hardware_label.startswith("cpu")
    if is_cpu and family == "start_up":
        return START_UP_CPU
    policy = _ON_EVERY_MACHINE.get(family)
    if policy is not None:
        return policy
    if not is_cpu:
        return _ON_GPUS.get(family, GPU_RATE)
    if ratio and family not in _TAILS:
        return CPU_RATIO
    return _ON_CPUS.get(family, CPU_ABSOLUTE)
