"""Eight GPUs: servers on several of them, planned, leased and side by side.

Whole runs of pytest with the fake engine and a fake NVML.
"""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import outcomes

pytest_plugins = ["pytester"]

LAYOUTS = """
like = "shipped"
[servers.wide]
device = "cuda"
tensor_parallel_size = 2
data_parallel_size = 4
data_parallel_attention = true
expert_parallel = true
[platforms.wide]
like = "gpu"
server = "wide"
"""
CLOSED = ("-k", "test_closed", "--weights", "dummy")


@pytest.fixture
def eight(gpus, monkeypatch):
    """A project of three questions on eight H200."""
    monkeypatch.setenv("FAKE_GPUS", "8")
    return gpus


def gpus_of(run_dir):
    """Server -> indices of the GPUs that each of its launches had."""
    found = {}
    for row in load(run_dir).measurements:
        for repetition in row.repetitions:
            indices = tuple(sorted(gpu.index for gpu in repetition.gpus))
            found.setdefault(row.server, set()).add(indices)
    return found


@pytest.mark.parametrize("ranks", [4, 8])
def test_a_server_has_as_many_gpus_as_ranks(eight, pytester, ranks):
    """The first ones of those that are leased; the machine's name counts them."""
    eight("-m", "h200", "--tp", str(ranks), *CLOSED, "--run-dir", "run")

    run = load(pytester.path / "run")
    expected = {tuple(range(ranks))}
    assert {
        f"fake-llama-3.1-8b-tp{ranks}": expected,
        f"fake-mixtral-8x7b-tp{ranks}": expected,
    } == gpus_of(pytester.path / "run")
    assert {f"h200x{ranks}"} == {run.hardware.label(ranks)}


def test_copies_of_the_attention_count(eight, pytester):
    """Two ranks times four copies are eight GPUs; the dense model has four whole copies."""
    (pytester.path / "study.toml").write_text(LAYOUTS)
    eight("--study", "study.toml", "-m", "wide", *CLOSED, "--run-dir", "run")

    expected = {tuple(range(8))}
    assert {
        "fake-llama-3.1-8b-tp2-dp4": expected,
        "fake-mixtral-8x7b-tp2-dp4-dpa-ep": expected,
    } == gpus_of(pytester.path / "run")


def test_experts_are_spread_over_eight(eight, pytester):
    """Expert parallelism over all ranks: planned, with the servers that it is compared with."""
    file = pytester.path / "tests" / "perf" / "test_small.py"
    file.write_text(
        file.read_text()
        + """
def spread(study):
    for pair in study.spread_and_split:
        of, over = (Load(server=server, workload=workload("closed", 20)) for server in pair)
        yield study.ratio("E10", "itl_median_ms", of, over)

@pytest.mark.perf(cases=spread)
def test_spread(check, case):
    check(case)
"""
    )
    options = ("-m", "h200", "--tp", "8", "-k", "test_spread")
    plan = eight(*options, "--weights", "dummy", "--plan")
    eight(*options, "--weights", "dummy", "--run-dir", "run")

    servers = {"fake-mixtral-8x7b-tp8", "fake-mixtral-8x7b-tp8-ep"}
    for server in servers:
        plan.stdout.fnmatch_lines([f"*{server} *"])
    assert servers == set(load(pytester.path / "run").servers)


def test_workers_have_gpus_of_their_own(eight, pytester):
    """Two workers with servers on four GPUs each share the machine, and no GPU."""
    options = ("-m", "h200", "--tp", "4", "-n", "2")
    result = eight(*options, *CLOSED, "--run-dir", "run")

    found = gpus_of(pytester.path / "run")
    assert 2 == len(found), result.stdout.str()
    (first,), (second,) = found.values()
    assert set(range(8)) == {*first, *second}
    assert 4 == len(first) == len(second)


def test_more_workers_than_fit_are_refused(eight):
    """With what fits: two servers of four GPUs on eight."""
    result = eight("-m", "h200", "--tp", "4", "-n", "3", *CLOSED)

    assert pytest.ExitCode.USAGE_ERROR == result.ret
    result.stderr.fnmatch_lines(
        ["*2 servers of 4 GPUs fit at the same time*", "*use -n 2 at most*"]
    )


def test_more_gpus_than_there_are_is_a_skip(eight, pytester):
    """It says what the server needs, what there is, and which size fits."""
    result = eight("-m", "h200", "--tp", "16", *CLOSED)

    assert {"skipped": 2} == outcomes(result)
    result.stdout.fnmatch_lines(
        ["*needs 16x H200, found 8x NVIDIA H200 (add --tp 8 *"]
    )


def test_more_copies_than_there_are_gpus_is_a_skip(
    eight, pytester, monkeypatch
):
    """No tensor parallel size helps there, so none is named."""
    monkeypatch.setenv("FAKE_GPUS", "4")
    (pytester.path / "study.toml").write_text(LAYOUTS)
    result = eight("--study", "study.toml", "-m", "wide", *CLOSED)

    assert {"skipped": 2} == outcomes(result)
    result.stdout.fnmatch_lines(["*needs 8x GPU, found 4x NVIDIA H200*"])
    assert "--tp" not in result.stdout.str().partition("needs 8x")[2][:60]
