"""A launch that failed requests: the gate, figures, history and exports leave it out."""

import csv
import io
import json
from xml.etree import ElementTree

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.history.exports import to_csv
from perfgate.history.series import entries_of
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.load.repetition import RequestRow
from perfgate.load.workload import Workload
from perfgate.models.routing import RequestRouting, Routing
from perfgate.models.routing_stats import values as routing_values
from perfgate.report import exports, junit
from perfgate.report.figures import gaps as figures_gaps
from perfgate.report.figures import sparse as figures_sparse
from perfgate.report.figures.series import level, series_over
from perfgate.report.page import Report, build
from perfgate.results.bandwidth import points
from perfgate.results.samples import RunIndex, values_of
from perfgate.results.schema import RunResults, Server
from tests.support import builders as m

FAILED = ("2 of 256 requests failed: HTTP 503",)
GOOD_GAP_MS, BAD_GAP_MS = 10.0, 7777.0
BAD_THROUGHPUT = 7777.0
MARK = "(invalid)"
# Launch 1 failed requests in one repetition; launch 2 has one repetition that fell
# silent.
THROUGHPUTS = {0: 1000.0, 1: BAD_THROUGHPUT, 2: 1100.0}
BATCHES = [
    Workload(name=f"batch-{batch}", num_prompts=8, max_concurrency=batch)
    for batch in (1, 8)
]
LOADS = [
    Load(server=server, workload=workload)
    for server in (m.MOE, m.DENSE)
    for workload in BATCHES
]
CASES = [
    *(
        Case(experiment="E1", metric="output_throughput", numerator=load)
        for load in LOADS
    ),
    Case(
        experiment="E1",
        metric="output_throughput",
        numerator=LOADS[0],
        denominator=LOADS[2],
    ),
]


def request(gap_ms):
    """One completed request of three tokens."""
    return RequestRow(
        scheduled_ms=0.0,
        sent_ms=0.0,
        ttft_ms=20.0,
        e2el_ms=20.0 + 2 * gap_ms,
        output_tokens=3,
        itl_ms=(gap_ms, gap_ms),
        error=None,
    )


def repetition(index, throughput, gap_ms, **more):
    """One repetition with its requests."""
    values = {"output_throughput": throughput, "itl_median_ms": gap_ms}
    requests = (request(gap_ms),) * 4
    return m.repetition(index, values, requests=requests, **more)


def measured(load, launch):
    """A load on launch 0 (good), 1 (failed requests) or 2 (one repetition invalid)."""
    gap_ms = BAD_GAP_MS if launch == 1 else GOOD_GAP_MS
    first = repetition(0, THROUGHPUTS[launch], gap_ms)
    second = first
    if launch == 1:
        second = repetition(1, BAD_THROUGHPUT, gap_ms, invalid=FAILED, failed=2)
    elif launch == 2:
        second = repetition(1, BAD_THROUGHPUT, BAD_GAP_MS, invalid=m.SILENT)
    return m.measurement(
        launch, first, second, server=load.server, workload=load.workload
    )


@pytest.fixture(scope="module")
def run() -> RunResults:
    """The run as `perfgate judge` would leave it."""
    servers = {
        server.key: Server(
            config=server, python="3.12", versions={"vllm": "0.26.0"}
        )
        for server in (m.MOE, m.DENSE)
    }
    results = m.bare_run(
        complete=True,
        hardware=m.hardware(),
        servers=servers,
        workloads={workload.name: workload for workload in BATCHES},
        launches=tuple(
            m.launched(launch, server)
            for server in (m.MOE, m.DENSE)
            for launch in THROUGHPUTS
        ),
        measurements=tuple(
            measured(load, launch) for load in LOADS for launch in THROUGHPUTS
        ),
        cases=tuple(CASES),
    )
    return results


@pytest.fixture(scope="module")
def judged(run, tmp_path_factory):
    """The same with its verdicts; nothing was recorded."""
    store = Store(tmp_path_factory.mktemp("baselines"))
    verdicts = [
        verdict.row(case, "t")
        for case, verdict in zip(run.cases, judge_run(run, store), strict=True)
    ]
    return msgspec.structs.replace(run, verdicts=tuple(verdicts))


def expected_launches(case):
    """Of one load the two good launches; of a ratio 1,000 / 1,000 and 1,100 / 1,100."""
    if case.denominator is not None:
        return [1.0, 1.0]
    return [1000.0, 1100.0]


def test_the_index_says_why_a_launch_does_not_count(run):
    """All three launches have a sample; the failed one has a reason in the place of a value."""
    samples = RunIndex(run).samples(CASES[0])

    assert [(0, 1000.0, ()), (1, None, FAILED), (2, 1100.0, m.SILENT)] == [
        (sample.launch, sample.value, sample.invalid) for sample in samples
    ]


def test_a_side_of_a_ratio_names_itself(run):
    """Both sides of the launch failed, and each says so."""
    reasons = set()
    for sample in RunIndex(run).samples(CASES[-1]):
        if sample.value is None:
            reasons.update(sample.invalid)

    assert {f"numerator: {FAILED[0]}", f"denominator: {FAILED[0]}"} == reasons


def test_gate_history_and_exports_have_the_same_launches(judged):
    """Each reads the same two values, and the value made of them is one."""
    index = RunIndex(judged)
    entries = {entry.case: entry for entry in entries_of(judged)}
    benchmarks = {
        row["name"]: row["extra_info"]["launches"]
        for row in json.loads(exports.pytest_benchmark(judged))["benchmarks"]
    }
    lines = {
        line["case"]: line["launches"].split()
        for line in csv.DictReader(io.StringIO(to_csv(entries.values())))
    }
    for row, case in zip(judged.verdicts, judged.cases, strict=True):
        launches = expected_launches(case)
        assert launches == values_of(index.samples(case))
        assert (2, row.value) == (row.launches, entries[case.id].value)
        assert tuple(launches) == entries[case.id].launches
        assert launches == benchmarks[case.id]
        assert [f"{value:.6g}" for value in launches] == lines[case.id]


def test_junit_has_the_gates_value(judged):
    """The property of the test case is the verdict's value."""
    values = []
    for node in ElementTree.fromstring(junit.junit(judged)).iter("property"):
        if node.get("name") == "value":
            values.append(float(node.get("value")))

    assert [f"{row.value:.6g}" for row in judged.verdicts] == [
        f"{value:.6g}" for value in values
    ]


def test_series_leave_it_out(judged):
    """Launches and repetitions alike, of every server and batch."""
    index = RunIndex(judged)
    series = series_over(
        index, BATCHES, lambda w: float(w.max_concurrency), "output_throughput"
    )

    assert {m.MOE.key, m.DENSE.key} == {line.server for line in series}
    for line in series:
        for row in line.levels:
            assert (1000.0, 1100.0) == row.launches
            assert (1000.0, 1000.0, 1100.0) == row.repetitions


def test_bandwidth_is_of_the_launches_that_count(judged):
    """The time between two tokens is that of the good launches."""
    for point in points(RunIndex(judged)):
        assert pytest.approx(GOOD_GAP_MS) == point.itl_ms


def test_gaps_and_timelines_are_of_launches_that_count(judged):
    """A timeline of what does not count is marked; the distribution has none of its gaps."""
    index = RunIndex(judged)
    gaps = figures_gaps.gap_distribution(index, "")
    timelines = figures_gaps.timelines(index, "")

    # 3 repetitions of 4 requests with 2 gaps each
    assert [("24", "10")] * 2 == [(row[1], row[-1]) for row in gaps.rows]
    for picture in timelines:
        is_bad = "7,777" in picture.description
        assert is_bad == (MARK in picture.title)


def test_page_shows_it_nowhere_but_marked(judged):
    """The table has the gate's value; no figure has the failed launch's, but for marked ones."""
    page = build(Report([judged]))
    unmarked = [part for part in page.split("<figure") if MARK not in part]

    # sqrt(1,000 x 1,100)
    assert "1,049" in page
    assert "7,777" in page
    assert "7,777" not in "".join(unmarked)


def routing(busy):
    """Ten requests of which the first expert gets `busy` of 100 choices in one layer."""
    counts = ((busy, 100 - busy),)
    one = RequestRouting(
        tokens=50, counts=counts, repeats_first=(10,), repeats_any=(20,)
    )
    return Routing(top_k=2, ranks=2, requests=(one,) * 10)


def routed(server, workload, launch, busy, **more):
    """A launch that recorded its routing."""
    repetition = m.repetition(0, routing_values(routing(busy)), **more)
    row = m.measurement(launch, repetition, server=server, workload=workload)
    return msgspec.structs.replace(row, routing=routing(busy))


def test_heat_map_is_of_the_last_launch_that_counts():
    """A later launch that failed requests is not drawn; where none counts, the figure says why."""
    server = msgspec.structs.replace(m.MOE, routing="returned")
    workload = Workload(name="routing", num_prompts=10, max_concurrency=1)
    good = routed(server, workload, 0, 60)
    bad = routed(server, workload, 1, 90, invalid=FAILED, failed=2)
    results = m.bare_run(
        hardware=m.hardware(),
        servers={server.key: Server(config=server, python="3.12", versions={})},
        workloads={"routing": workload},
        measurements=(good, bad),
    )

    (picture,) = figures_sparse.experts(
        RunIndex(results), lambda case, label: None, ""
    )
    assert "gets 60.0 % of its layer's choices" in picture.description

    only_bad = msgspec.structs.replace(results, measurements=(bad,))
    (picture,) = figures_sparse.experts(
        RunIndex(only_bad), lambda case, label: None, ""
    )
    assert FAILED[0] == picture.missing


def test_a_load_without_a_launch_that_counts_has_no_level(judged):
    """No zero and no NaN: nothing is drawn."""
    only_bad = [row for row in judged.measurements if row.launch == 1]
    index = RunIndex(
        msgspec.structs.replace(judged, measurements=tuple(only_bad))
    )

    assert level(index, m.MOE.key, "batch-8", "output_throughput") is None
    assert [] == points(index)
    assert [] == entries_of(index.results)
