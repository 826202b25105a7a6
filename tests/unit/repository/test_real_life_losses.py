"""Real-life losses: each alters what it says, and the gate's verdicts are counted."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import real_life_losses as losses
from benchmarks.altered_runs import RequestTimes
from perfgate.accept.accept import accept
from perfgate.accept.choice import Choice
from perfgate.cases import Case, Load
from perfgate.engines.base import ServerConfig
from perfgate.judge.baseline_store import Store
from perfgate.load.workload import Workload
from perfgate.results import schema as rundata
from perfgate.results.group_verdict import GroupVerdict
from tests.support import builders as m
from tests.support.even_requests import repetition

ALONE = ServerConfig(engine="vllm", model=losses.DENSE, device="cuda")
SPARSE = msgspec.structs.replace(ALONE, model=losses.SPARSE)
BATCH = Workload(name="batch-64", num_prompts=8, max_concurrency=4)
RATE = Workload(name="rate-8", num_prompts=12, request_rate=8.0)
METRICS = ("output_throughput", "itl_median_ms")


def times(attempt=0, index=0, gaps=40):
    """A request of 20 ms to its first token and 10 ms to each further one."""
    return RequestTimes(attempt, index, 20.0, np.full(gaps, 10.0))


def session(run_id="20260601-120000-1"):
    """Both models under a batch and at a rate, on one GPU."""
    values, cases, launches = {}, [], {}
    for server in (ALONE, SPARSE):
        values[Load(server=server)] = {"kv_cache_tokens": [1e6]}
        for workload in (BATCH, RATE):
            load = Load(server=server, workload=workload)
            values[load] = {"output_throughput": [1.0]}
            for metric in METRICS:
                cases.append(
                    Case(experiment="E1", metric=metric, numerator=load)
                )
        launch = Load(server=server)
        cases.append(
            Case(experiment="E1", metric="kv_cache_tokens", numerator=launch)
        )
    results = m.run(values, cases, run_id, machine=m.hardware(count=1))
    workloads = {"batch-64": BATCH, "rate-8": RATE}
    measurements = []
    for row in results.measurements:
        rows = [repetition(workloads[row.workload], n) for n in range(3)]
        measurements.append(
            msgspec.structs.replace(row, repetitions=tuple(rows))
        )
    for launch in results.launches:
        launches[launch.server] = launch
    return msgspec.structs.replace(results, measurements=tuple(measurements))


@pytest.fixture
def store(tmp_path):
    """A store in which three such runs are recorded."""
    folders = []
    for day in (1, 2, 3):
        folder = tmp_path / "runs" / str(day)
        rundata.save(session(f"202605{day:02}-120000-1"), folder)
        folders.append(folder)
    found = Store(tmp_path / "baselines")
    accept(folders, found, Choice(), env={})
    return found


def test_first_tokens_and_gaps():
    """A factor on first tokens, on gaps, or on both."""
    assert (30.0, 10.0) == (
        losses.later(1.5)(times())[0],
        losses.later(1.5)(times())[1][0],
    )
    assert 20.0 == losses.slower_decode(2)(times())[0]
    assert 20.0 == losses.slower_decode(2)(times())[1][0]
    assert (40.0, 20.0) == (
        losses.slower(2)(times())[0],
        losses.slower(2)(times())[1][0],
    )


def test_a_share_of_the_gaps():
    """About that share is longer, the same ones each time, others in another repetition."""
    alter = losses.longer_gaps(0.15, 2)
    first = alter(times(gaps=2000))[1]
    other = alter(times(attempt=1, gaps=2000))[1]

    assert {10.0, 20.0} == set(first.tolist())
    assert 0.12 < np.mean(first == 20.0) < 0.18
    assert first.tolist() == alter(times(gaps=2000))[1].tolist()
    assert first.tolist() != other.tolist()


def test_some_requests_are_late():
    """One in 50 waits 2 s more."""
    waits = [losses.late_requests(times(index=n))[0] for n in range(2000)]

    assert {20.0, 2020.0} == set(waits)
    assert 20 < waits.count(2020.0) < 60


def test_the_last_of_three_repetitions():
    """The third is three times slower, and so is the third of those after it."""
    ttfts = [losses.last_repetition(times(attempt=n))[0] for n in range(6)]

    assert [20.0, 20.0, 60.0, 20.0, 20.0, 60.0] == ttfts


def test_tokens_in_bursts():
    """Eight tokens come at once, and the request takes as long as before."""
    _, gaps_ms = losses.in_bursts(times(gaps=20))

    assert pytest.approx(200.0) == gaps_ms.sum()
    assert [0, 8, 16] == np.flatnonzero(gaps_ms > 1).tolist()


def changed(results, altered):
    """The loads, and figures of launches, that differ."""
    found = set()
    for before, after in zip(
        results.measurements, altered.measurements, strict=True
    ):
        old, new = before.repetitions[0], after.repetitions[0]
        for name in METRICS:
            ratio = new.values[name] / old.values[name]
            if abs(ratio - 1) > 1e-3:
                found.add((before.server, before.workload))
    for before, after in zip(results.launches, altered.launches, strict=True):
        if before.values != after.values:
            found.add((before.server, "launch"))
    return found


@pytest.mark.parametrize(
    ("name", "servers", "workloads"),
    [
        ("nothing", (), ()),
        ("45 % of gaps doubled at the rates", (ALONE, SPARSE), ("rate-8",)),
        ("batch-64 half as fast, dense", (ALONE,), ("batch-64",)),
        ("batch-64 half as fast, both models", (ALONE, SPARSE), ("batch-64",)),
        ("Mixtral decode 5 % slower", (SPARSE,), ("batch-64", "rate-8")),
        ("KV cache -4 %", (ALONE, SPARSE), ("launch",)),
    ],
)
def test_a_loss_changes_what_it_says(name, servers, workloads):
    """The loads of a loss change, and no others."""
    alter = next(row.alter for row in losses.losses() if row.name == name)
    results = session()
    expected = {
        (server.key, workload) for server in servers for workload in workloads
    }

    found = changed(results, alter(results))

    assert expected == found


def test_every_loss_can_be_judged(store):
    """Each gives a run with the same cases; names are told apart."""
    rows = losses.losses()
    results = session()

    found = list(losses.tallies(results, store, rows))

    assert len(rows) == len({row.name for row in rows}) == len(found)
    by_name = {row.name: row for row in found}
    assert ((), 10) == (by_name["nothing"].red, by_name["nothing"].passed)
    assert 2 == len(by_name["KV cache -4 %"].red)
    half = by_name["batch-64 half as fast, dense"]
    assert {f"{ALONE.key}/batch-64/{name}" for name in METRICS} == set(half.red)
    assert 0 < by_name["wrong tokens, served 10 % faster"].improved
    assert () == by_name["engine version changed"].red


def test_other_versions_and_energy():
    """The engine's version alone changes; each token takes 40 % more energy."""
    results = session()

    versions = losses.other_version(results).servers[ALONE.key].versions
    energy = losses.more_energy(results).measurements[0].repetitions[0].values

    assert "99.0" == versions["vllm"]
    assert pytest.approx(0.7) == energy["energy_per_output_token_j"]


def test_what_is_recorded_is_judged(store):
    """A metric that the store has of a load is judged though the run asked for none."""
    results = msgspec.structs.replace(session(), cases=())

    ids = {case.id for case in losses.recorded_cases(results, store)}

    assert {case.id for case in session().cases} == ids


def test_a_store_without_some_runs(store, tmp_path):
    """Launches of the runs are left out; a file without any is gone; noise is learned."""
    runs = [f"202605{day:02}-120000-1" for day in (1, 2, 3)]

    part = losses.temporary_store(store.root, tmp_path / "a", runs[:1])
    empty = losses.temporary_store(store.root, tmp_path / "b", runs)

    path = next((tmp_path / "a").glob("h200x1/*/batch-64.json"))
    file = part.file(path)
    assert file is not None
    found = {sample.run for sample in file.metrics[METRICS[0]].launches}
    assert set(runs[1:]) == found
    assert part.noise_table is not None
    assert 0 == empty.count("h200x1")


def test_more_launches_decide(store, monkeypatch):
    """Where the first launch asks for more, the verdict is that of three."""
    results = session()
    real = losses.judge_run

    def judged(run, baselines):
        rows = real(run, baselines)
        if len(run.launches) > len(results.launches):
            return rows
        first = msgspec.structs.replace(
            rows[0], outcome=losses.Outcome.REGRESSED, needs_launches=2
        )
        return [first, *rows[1:]]

    monkeypatch.setattr(losses, "judge_run", judged)
    row = losses.tally("x", results, store)

    assert (1, ()) == (row.first_red, row.red)


def test_verdicts_over_several_rows_are_named(store):
    """Those that fail the run, by their check."""
    rows = losses.judge_run(session(), store)
    shift = GroupVerdict(
        scope="server",
        check="shift",
        outcome=losses.Outcome.REGRESSED,
        gate="hard",
        summary="",
    )
    told = msgspec.structs.replace(shift, gate="report")

    row = losses.count("x", rows, rows, [shift, shift, told])

    assert (("shift (2)",), ()) == (row.groups, row.red)


def cpu_store(tmp_path):
    """A store of one launch of both models on a CPU."""
    cases = [m.CPU_RATIO]
    values = {}
    for load in m.CPU_RATIO.loads:
        values[load] = {"output_throughput": [100.0], "itl_median_ms": [5.0]}
        for metric in METRICS:
            cases.append(Case(experiment="E1", metric=metric, numerator=load))
    machine = m.hardware("cpu")
    rundata.save(m.run(values, cases, machine=machine), tmp_path / "cpu")
    found = Store(tmp_path / "baselines")
    accept([tmp_path / "cpu"], found, Choice(), env={})
    return found


def test_a_slower_cpu(tmp_path):
    """Every load is slower by the factor; what is a ratio of two loads stays."""
    found = cpu_store(tmp_path)
    label = next(path.name for path in found.root.glob("cpu-*"))

    decisions = {
        row.case: row.change for row in losses.slower_cpu(found, label, 10.0)
    }

    server = m.DENSE_CPU.key
    name = f"{server}/closed-c32"
    assert pytest.approx(-0.9) == decisions[f"{name}/output_throughput"]
    assert pytest.approx(9.0) == decisions[f"{name}/itl_median_ms"]
    assert pytest.approx(0.0) == decisions[m.CPU_RATIO.id]


@pytest.mark.parametrize(
    ("key", "size"),
    [("vllm-llama-small-tp2", 2), ("vllm-llama-small-tp1-routing", 1)],
)
def test_servers_by_their_keys(key, size):
    """A key names engine, model and ranks; what follows does not matter here."""
    server = losses._cpu_server(key)

    assert ("vllm", "llama-small", size) == (
        server.engine,
        server.model,
        server.tensor_parallel_size,
    )


def test_against_one_recorded_launch(tmp_path):
    """The planted run and every other run of two GPUs is judged against the stored one."""
    itl = {m.MOE_LOAD: {"itl_median_ms": [10.0]}}
    slow = {m.MOE_LOAD: {"itl_median_ms": [20.0]}}
    runs = tmp_path / "runs"
    rundata.save(m.run(itl, [m.ITL]), runs / losses.PAIR)
    rundata.save(m.run(itl, [m.ITL], "20260602-1"), runs / "h200x2-again")
    rundata.save(m.run(slow, [m.ITL], "20260603-1"), runs / losses.PAIR_PLANTED)

    rows = losses.against_one_launch(
        runs, cpu_store(tmp_path).root, tmp_path / "folder"
    )

    assert ["unchanged, h200x2-again", "without custom all-reduce"] == [
        row.name for row in rows
    ]
    assert [(), (m.ITL.id,)] == [row.red for row in rows]


def test_the_command(store, tmp_path, monkeypatch):
    """Every table is printed and written; the first line tells how exact altering is."""
    runs, written = tmp_path / "runs", tmp_path / "losses.json"
    monkeypatch.setattr(losses, "SESSION", ("1", "2"))
    words = ["--runs", runs, "--baselines", store.root, "--json", written]

    done = CliRunner().invoke(
        losses.main, [*map(str, words), "--leave-out-own"]
    )

    assert 0 == done.exit_code
    first = done.output.splitlines()[0]
    assert "gives the stored values back within 0.000%" in first
    assert "| everything 5 % slower |" in done.output
    tables = msgspec.json.decode(written.read_bytes())
    assert ["loss"] == list(tables)


def test_few_cases_are_named():
    """A long list is cut, and says how much is missing."""
    assert "`a`, `b` and 2 more" == losses.named(list("abcd"), 2)
    assert "`a`" == losses.named(["a"], 2)
