"""Published figures: those of the source, judged as wide limits only where they apply."""

import dataclasses
import shutil
from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_schema import read_published
from perfgate.judge.baseline_store import Published, Store
from perfgate.judge.gate import judge, judge_case
from perfgate.judge.verdict import Outcome
from perfgate.load.metrics import METRICS
from perfgate.load.workload import Workload
from perfgate.report.verdict_text import render
from tests.perf.test_batch_sweep import growth
from tests.perf.test_memory import weights
from tests.perf.test_request_rates import each_rate
from tests.perf.test_routing import near_uniform
from tests.perf.test_single_stream import model_over_reference
from tests.support import builders as m
from tests.support.baseline_files import figure
from tests.support.studies import SHIPPED, study_of

ROOT = Path(__file__).resolve().parents[3] / "baselines" / "published"
SHAREGPT = [f"sharegpt-rate-{rate}" for rate in (1, 2, 4, 8)]
MOE, DENSE = "vllm-mixtral-8x7b-tp2", "vllm-llama-3.1-8b-tp2"
ONE = "vllm-llama-3.1-8b-tp1"

# The study's own tables. Request, output and total token throughput of the
# burst at rate inf:
BURST = {
    f"h200x2/{MOE}": (23.5, 3000, 4865),
    f"h200x2/{DENSE}": (84.54, 10755, 16625),
    f"h200x1/{ONE}": (84.77, 10784, 16670),
    f"h100x1/{ONE}": (78.02, 9926.30, 15344.34),
    f"h100x2/{DENSE}": (78.18, 9946.45, 15375.48),
    f"a100x1/{ONE}": (32.46, 4129.20, 6383.02),
    f"a100x2/{DENSE}": (32.43, 4126.16, 6378.33),
    f"h200x2/{DENSE}--over--{MOE}": (3.6, 3.6, 3.4),
}
# Average latency in s, per-token latency in ms, output throughput, by batch
# ("single-stream" is a batch of 1):
STREAMS = {
    f"h200x2/{MOE}/single-stream": (0.589, 9.21, 108.6),
    f"h200x2/{DENSE}/single-stream": (0.376, 5.87, 170.4),
    f"h100x2/{DENSE}/batch-1": (0.449, 7.01, 142.58),
    f"h100x2/{DENSE}/batch-8": (0.478, 7.47, 1070.96),
    f"h100x2/{DENSE}/batch-32": (0.543, 8.49, 3770.33),
    f"a100x2/{DENSE}/batch-1": (0.870, 13.59, 73.58),
    f"a100x2/{DENSE}/batch-8": (0.932, 14.57, 549.16),
    f"a100x2/{DENSE}/batch-32": (1.082, 16.90, 1893.29),
    f"h200x2/{DENSE}/batch-1": (0.376, 5.87, 170.41),
    f"h200x2/{DENSE}/batch-8": (0.403, 6.29, 1271.35),
    f"h200x2/{DENSE}/batch-32": (0.466, 7.27, 4398.95),
}
# TTFT median and p99, ITL median in ms, output throughput, by request rate:
RATES = {
    f"h200x2/{MOE}/rate-1": (1033, 2762, 8.12, 112.5),
    f"h200x2/{MOE}/rate-4": (1677, 1808, 13.19, 417.1),
}
# The same gaps, of the loads that the study sends at these rates; and the growth over
# its batch of 1.
SENT_AT_RATES = {
    f"h200x2/{MOE}/{data_set}-rate-{rate}/itl_median_ms": value
    for data_set in ("sharegpt", "synthetic")
    for rate, value in ((1, 8.12), (4, 13.19))
}
SENT_GROWTH = f"h100x2/{DENSE}/batch-32--over--single-stream/itl_median_ms"
SPEED_UP = {"h100x2": 1.002, "a100x2": 0.999, "h200x2": 0.997}


def source():
    """Every published number, by "hardware/subject/workload/metric"."""
    numbers = {}
    for place, row in BURST.items():
        for name, value in zip(
            (
                "request_throughput",
                "output_throughput",
                "total_token_throughput",
            ),
            row,
            strict=True,
        ):
            numbers[f"{place}/burst-100/{name}"] = value
    for place, (latency_s, per_token, throughput) in STREAMS.items():
        numbers |= {
            f"{place}/e2el_median_ms": latency_s * 1000,
            f"{place}/tpot_median_ms": per_token,
            f"{place}/itl_median_ms": per_token,
            f"{place}/output_throughput": throughput,
        }
    for place, row in RATES.items():
        names = (
            "ttft_median_ms",
            "ttft_p99_ms",
            "itl_median_ms",
            "output_throughput",
        )
        numbers |= {
            f"{place}/{name}": value
            for name, value in zip(names, row, strict=True)
        }
    numbers |= SENT_AT_RATES | {SENT_GROWTH: 1.21}
    for label, value in SPEED_UP.items():
        numbers |= {
            f"{label}/{DENSE}--over--{ONE}/burst-100/{name}": value
            for name in ("output_throughput", "request_throughput")
        }
    for name in ("e2el_median_ms", "tpot_median_ms", "itl_median_ms"):
        numbers[f"h200x2/{MOE}--over--{DENSE}/single-stream/{name}"] = 1.57
    for name, value in (
        ("tpot_median_ms", 1.21),
        ("itl_median_ms", 1.21),
        ("output_throughput", 26.4),
    ):
        numbers[f"h100x2/{DENSE}/batch-32--over--batch-1/{name}"] = value
    numbers[f"h200x2/{MOE}/launch/weights_bytes_per_rank"] = 46.7e9
    numbers["h200x1/vllm-mixtral-8x7b-tp1/launch/weights_bytes_per_rank"] = (
        93.4e9
    )
    # The published bytes over the arithmetic ones: 46.7 / (46.7 x 2 / 2) and
    # 93.4 / (46.7 x 2).
    numbers[f"h200x2/{MOE}/launch/weights_over_arithmetic"] = 46.7 / (
        46.7 * 2 / 2
    )
    numbers["h200x1/vllm-mixtral-8x7b-tp1/launch/weights_over_arithmetic"] = (
        93.4 / (46.7 * 2)
    )
    # Each expert's share within 15 % of uniform, which is 1 in both.
    uniform = ("routing_max_over_mean", "routing_min_over_mean")
    return numbers | dict.fromkeys(
        (f"h200x2/{MOE}-routing/routing/{name}" for name in uniform), 1.0
    )


def stored():
    """Every figure in the store, by the same key."""
    return {
        f"{path.relative_to(ROOT).with_suffix('')}/{name}": (
            figure,
            read_published(path).identity,
        )
        for path in sorted(ROOT.rglob("*.json"))
        for name, figure in read_published(path).metrics.items()
    }


def test_every_number_is_the_sources():
    """The store holds each of the source's numbers under its key, and no other."""
    assert source() == {
        key: pytest.approx(figure.value, rel=1e-12)
        for key, (figure, _) in stored().items()
    }


@pytest.mark.parametrize(
    ("key", "figure", "identity"),
    [(k, f, i) for k, (f, i) in stored().items()],
    ids=list(stored()),
)
def test_figure_is_of_a_known_metric(key, figure, identity):
    """Name, unit and direction are the metric's own, and the identity fits the file's place."""
    label, subject, _, name = key.split("/")
    metric = METRICS[name]
    assert (metric.unit, metric.better) == (figure.unit, figure.better)
    ratio = "--over--" in key
    assert label == identity["numerator.hardware" if ratio else "hardware"]
    assert subject.startswith(
        f"vllm-{identity['numerator.model' if ratio else 'model']}-tp"
    )
    assert (
        "2026-04-12" == figure.date if "h200" in label else figure.date is None
    )


def test_figures_that_hold_are_of_the_load_that_is_sent():
    """Weights, routing, rates and ratios within a load hold.

    What two GPUs contradict, or what came from another load, is only compared.
    """
    rates = f"h200x2/{MOE}/rate-"
    growth = f"h100x2/{DENSE}/batch-32--over--batch-1"
    expected = {
        f"h200x2/{MOE}/launch/weights_bytes_per_rank",
        f"h200x2/{MOE}/launch/weights_over_arithmetic",
        "h200x1/vllm-mixtral-8x7b-tp1/launch/weights_bytes_per_rank",
        "h200x1/vllm-mixtral-8x7b-tp1/launch/weights_over_arithmetic",
        f"h200x2/{MOE}-routing/routing/routing_max_over_mean",
        f"h200x2/{MOE}-routing/routing/routing_min_over_mean",
        f"{rates}1/itl_median_ms",
        f"{rates}1/output_throughput",
        f"{rates}4/itl_median_ms",
        f"{rates}4/output_throughput",
        f"{growth}/itl_median_ms",
        f"{growth}/tpot_median_ms",
        SENT_GROWTH,
        *SENT_AT_RATES,
    }
    for name in ("e2el_median_ms", "itl_median_ms", "tpot_median_ms"):
        expected.add(f"h200x2/{MOE}--over--{DENSE}/single-stream/{name}")

    assert expected == {
        key for key, (figure, _) in stored().items() if figure.holds
    }


def guarded(study, label, *questions):
    """Judged cases of these questions that meet a figure that holds, by their figures' keys."""
    store = Store(ROOT.parent)
    found = set()
    for question in questions:
        for case in question(study):
            met = store.published(case, label)
            if case.gate == "hard" and met is not None and met.figure.holds:
                place = store.published_path(case, label).relative_to(ROOT)
                found.add(f"{place.with_suffix('')}/{case.metric}")
    return found


@pytest.mark.parametrize("data_set", ["sharegpt", "synthetic"])
def test_the_range_of_the_itl_guards_the_rates_that_are_sent(data_set):
    """At 1 and at 4 requests a second, under the name of either data set."""
    study = study_of("h200", "vllm")
    if data_set == "sharegpt":
        rates = (SHIPPED.workloads["gpu"][name] for name in SHAREGPT)
        study = dataclasses.replace(study, rates=tuple(rates))

    expected = {
        f"h200x2/{MOE}/{data_set}-rate-{rate}/itl_median_ms" for rate in (1, 4)
    }
    assert expected == guarded(study, "h200x2", each_rate)


def test_what_holds_guards_the_questions_of_the_study():
    """The growth over a batch, the ratio of single streams, weights and routing."""
    sparse, dense = study_of("h200", "vllm"), study_of("h100", "vllm")

    assert {
        f"h200x2/{MOE}--over--{DENSE}/single-stream/itl_median_ms",
        f"h200x2/{MOE}/launch/weights_over_arithmetic",
        f"h200x2/{MOE}-routing/routing/routing_max_over_mean",
        f"h200x2/{MOE}-routing/routing/routing_min_over_mean",
    } == guarded(sparse, "h200x2", model_over_reference, weights, near_uniform)
    assert {SENT_GROWTH} == guarded(dense, "h100x2", growth)


@pytest.mark.parametrize(
    ("question", "label", "metric", "worse"),
    [
        (each_rate, "h200x2", "itl_median_ms", 1.26),
        (growth, "h100x2", "itl_median_ms", 1.16),
        (model_over_reference, "h200x2", "itl_median_ms", 1.16),
        (weights, "h200x2", "weights_over_arithmetic", 1.04),
        (weights, "h200x2", "weights_over_arithmetic", 0.96),
        (near_uniform, "h200x2", "routing_max_over_mean", 1.16),
        (near_uniform, "h200x2", "routing_min_over_mean", 0.84),
    ],
)
def test_a_value_beyond_a_published_guard_is_red(
    question, label, metric, worse
):
    """25 % of an ITL, 15 % of a ratio or an even share, 3 % of the weights."""
    store = Store(ROOT.parent)
    outcomes = set()
    for case in question(study_of(label.partition("x")[0], "vllm")):
        met = store.published(case, label)
        if case.metric != metric or met is None or not met.figure.holds:
            continue
        met = dataclasses.replace(met, identity={"weights": "auto"})
        for factor in (1.0, worse):
            value = met.figure.value * factor
            verdict = judge(case, m.seen(case, value, value, value), met)
            outcomes.add((factor, verdict.outcome, verdict.gate))

    assert {
        (1.0, Outcome.PASSED, "hard"),
        (worse, Outcome.REGRESSED, "hard"),
    } == outcomes


@pytest.fixture
def store(tmp_path):
    """The published figures alone: recorded launches would replace them."""
    shutil.copytree(ROOT, tmp_path / "published")
    return Store(tmp_path)


def test_a_ratio_of_two_servers_meets_the_published_identity(store):
    """TP=2 over TP=1 on the burst: both identities fit; 0.997 is contradicted, and no limit."""
    one = msgspec.structs.replace(m.DENSE, tensor_parallel_size=1)
    of, over = (
        Load(server=server, workload=m.BURST) for server in (m.DENSE, one)
    )
    case = Case(
        experiment="E5",
        metric="output_throughput",
        numerator=of,
        denominator=over,
    )
    results = m.run(
        {
            of: {"output_throughput": [10_200.0]},
            over: {"output_throughput": [10_000.0]},
        },
        [case],
    )
    result = judge_case(results, case, store)
    assert (Outcome.NO_BASELINE, 0.997) == (result.outcome, result.baseline)
    assert "or is of another load" in render(result)


FIGURE = figure(note="a burst")


def published(**changed):
    """A published throughput of 3,000 tok/s with real weights."""
    return Published(
        Path("p.json"),
        {"weights": "auto"},
        msgspec.structs.replace(FIGURE, **changed),
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2300.0, Outcome.PASSED),
        (2200.0, Outcome.REGRESSED),
        (4300.0, Outcome.IMPROVED),
    ],
)
def test_wide_limit(value, expected):
    """25 % below 3,000 is 2,250: 2,300 passes, 2,200 does not.

    3,000 / 0.75 = 4,000 and more is an improvement.
    """
    result = judge(
        m.THROUGHPUT, m.seen(m.THROUGHPUT, value, value, value), published()
    )
    assert (expected, "hard") == (result.outcome, result.gate)


def test_no_red_by_a_single_launch():
    """Beyond the tolerance on one launch, two more are asked for."""
    assert (
        2
        == judge(
            m.THROUGHPUT, m.seen(m.THROUGHPUT, 2000.0), published()
        ).needs_launches
    )


def test_other_weights_make_it_a_comparison():
    """With made-up weights a hard case has no limit: NO_BASELINE, with the comparison in it."""
    result = judge(
        m.THROUGHPUT, m.seen(m.THROUGHPUT, 1000.0, weights="dummy"), published()
    )
    assert (Outcome.NO_BASELINE, 3000.0) == (result.outcome, result.baseline)
    assert "-66.7 % vs the published 3,000 tok/s" in render(result)
    assert "weights: dummy now, auto in the baseline" in render(result)


def test_figure_that_does_not_hold_is_shown_only():
    """A reported case whose figure does not hold gets its outcome, and stays a report."""
    case = msgspec.structs.replace(m.THROUGHPUT, gate="report")
    result = judge(case, m.seen(case, 1000.0), published(holds=False))
    assert (Outcome.REGRESSED, "report", 0) == (
        result.outcome,
        result.gate,
        result.needs_launches,
    )
    assert "Comparison only" in render(result)


def test_a_run_with_real_weights_meets_the_published_identity(store):
    """A run's identity has every field and value that a published file names."""
    server = ServerConfig(
        engine="vllm",
        model="mixtral-8x7b",
        tensor_parallel_size=2,
        device="cuda",
    )
    load = Load(
        server=server, workload=Workload(name="rate-1", num_prompts=100)
    )
    case = Case(experiment="E3", metric="itl_median_ms", numerator=load)
    results = m.run({load: {"itl_median_ms": [8.0]}}, [case])
    result = judge_case(results, case, store)
    assert (Outcome.PASSED, 8.12) == (result.outcome, result.baseline)


def test_even_routing_is_compared_with_what_was_published(tmp_path):
    """It stands for the model's own; with a stated routing that is not even nothing is."""
    store = Store(ROOT.parent)
    found = {}
    for stated in ("", "uniform", "few"):
        server = ServerConfig(
            engine="vllm",
            model="mixtral-8x7b",
            device="cuda",
            load_format="dummy",
            stated_routing=stated,
        )
        case = Case(
            experiment="E6",
            metric="weights_over_arithmetic",
            numerator=Load(server=server),
        )
        found[stated] = store.published(case, "h200x1")

    assert isinstance(found[""], Published)
    assert found[""] == found["uniform"]
    assert found["few"] is None
