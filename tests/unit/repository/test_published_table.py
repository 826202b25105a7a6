"""Published figures vs measured ones, each with its explanation or none."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks.published_table import (
    EXPLANATIONS,
    UNEXPLAINED,
    main,
    read_explanations,
)
from perfgate.cases import Load
from perfgate.load.workload import Workload
from perfgate.results import schema as rundata
from tests.support import builders as m

PUBLISHED = Path(__file__).resolve().parents[3] / "baselines" / "published"
MOE, DENSE = (
    msgspec.structs.replace(server, tensor_parallel_size=1, load_format="dummy")
    for server in (m.MOE, m.DENSE)
)
SINGLE = Workload(name="single-stream", num_prompts=8, max_concurrency=1)


def saved(folder, kind="h200", dense=(11_000.0, 12_000.0, 12_500.0)):
    """A run of both models at TP=1: bursts and single streams."""
    values = {
        Load(server=DENSE, workload=m.BURST): {"output_throughput": dense},
        Load(server=MOE, workload=m.BURST): {
            "output_throughput": [3000.0] * len(dense)
        },
        Load(server=DENSE, workload=SINGLE): {"itl_median_ms": [5.0]},
        Load(server=MOE, workload=SINGLE): {"itl_median_ms": [8.0]},
    }
    rundata.save(m.run(values, [], machine=m.hardware(kind, 1)), folder)
    return folder


@pytest.fixture
def table(tmp_path):
    """The command's rows by "published on, of, metric"."""

    def rows(*words):
        done = CliRunner().invoke(
            main, [*map(str, words), "--baselines", str(PUBLISHED.parent)]
        )
        assert 0 == done.exit_code, done.output
        cells = [
            line.strip("| ").split(" | ")
            for line in done.output.splitlines()
            if line.startswith("| ")
        ]
        return {", ".join(row[:3]): row[3:] for row in cells[1:]}

    return rows


def test_figures_of_one_gpu(table, tmp_path):
    """The burst of the dense model on one H200: published, median of three launches, ratio."""
    row = table(saved(tmp_path / "run"))[
        "1x H200, vllm-llama-3.1-8b-tp1, burst-100, output_throughput"
    ]

    assert ["10,784 tok/s", "12,000 tok/s (3)", "1.11", "**no**"] == row[
        :4
    ]  # 12,000 / 10,784


def test_ratios_and_figures_of_two_gpus_vs_one(table, tmp_path):
    """What was published at TP=2 is compared with TP=1, ratios by launch.

    What only two GPUs can measure is left out.
    """
    rows = table(saved(tmp_path / "run"))

    two = "2x H200, TP=2"
    ratio = rows[
        f"{two}, vllm-llama-3.1-8b-tp2 / vllm-mixtral-8x7b-tp2, burst-100, output_throughput"
    ]
    # 12,000 / 3,000 over 3.6
    assert ["3.6x", "4x (3, TP=1)", "1.11"] == ratio[:3]
    itl = rows[
        f"{two}, vllm-mixtral-8x7b-tp2 / vllm-llama-3.1-8b-tp2, single-stream, itl_median_ms"
    ]
    assert ["1.57x", "1.6x (1, TP=1)", "1.02", "yes"] == itl[:4]
    assert ["13.19 ms", "-", "-", "yes", "not measured in these runs"] == [
        *rows[f"{two}, vllm-mixtral-8x7b-tp2, rate-4, itl_median_ms"][:4],
        rows[f"{two}, vllm-mixtral-8x7b-tp2, rate-4, itl_median_ms"][
            4
        ].partition(".")[0],
    ]
    assert (
        "**no**"
        == rows[f"{two}, vllm-mixtral-8x7b-tp2, rate-4, ttft_median_ms"][3]
    )
    assert [] == [
        name
        for name in rows
        if ("tp1" in name and "2x" in name) or "routing" in name
    ]


def test_two_gpus_answer_for_themselves(table, tmp_path):
    """A run at TP=2 is held against the figures of two GPUs, with what a second one gains."""
    alone = msgspec.structs.replace(
        m.DENSE, tensor_parallel_size=1, load_format="dummy"
    )
    two = msgspec.structs.replace(m.DENSE, load_format="dummy")
    values = {
        Load(server=two, workload=m.BURST): {"output_throughput": [12_000.0]},
        Load(server=alone, workload=m.BURST): {"output_throughput": [10_000.0]},
    }
    rundata.save(
        m.run(values, [], machine=m.hardware("h200", 2)), tmp_path / "run"
    )

    rows = table(tmp_path / "run")

    name = "burst-100, output_throughput"
    assert (
        "10,000 tok/s (1)" == rows[f"1x H200, vllm-llama-3.1-8b-tp1, {name}"][1]
    )
    assert (
        "12,000 tok/s (1)"
        == rows[f"2x H200, TP=2, vllm-llama-3.1-8b-tp2, {name}"][1]
    )
    gain = rows[
        f"2x H200, TP=2, vllm-llama-3.1-8b-tp2 / vllm-llama-3.1-8b-tp1, {name}"
    ]
    assert "1.2x (1)" == gain[1]  # 12,000 / 10,000


def test_explanations(table, tmp_path):
    """A given explanation stands in the row; where there is none, it is unexplained."""
    explanations = tmp_path / "explanations.toml"
    explanations.write_text(
        '"h200x1/*/burst-100/output_throughput" = "the loads differ"\n'
    )
    run = saved(tmp_path / "run")
    rows = table(run, "--explanations", explanations)

    assert rows["1x H200, vllm-llama-3.1-8b-tp1, burst-100, output_throughput"][
        4
    ].startswith("the loads differ.")
    single = (
        "2x H200, TP=2, vllm-mixtral-8x7b-tp2, single-stream, itl_median_ms"
    )
    assert rows[single][4].startswith(f"{UNEXPLAINED}.")


def test_every_explanation_is_of_a_figure():
    """Each pattern of the file matches a published figure, and the file keeps its order."""
    cases = [
        f"{path.parent.parent.name}/{path.parent.name}/{path.stem}/{metric}"
        for path in PUBLISHED.rglob("*.json")
        for metric in msgspec.json.decode(path.read_bytes())["metrics"]
    ]

    explanations = read_explanations()
    assert tomllib.loads(EXPLANATIONS.read_text()) == explanations
    assert [] == [
        pattern
        for pattern in explanations
        if not fnmatch.filter(cases, pattern)
    ]


def test_injected_launches_are_left_out(table, tmp_path):
    """What was slowed down on purpose is compared with nothing."""
    run = saved(tmp_path / "run")
    results = rundata.load(run)
    injected = tuple(
        msgspec.structs.replace(launch, injected={"per_token_ms": 1.0})
        for launch in results.launches
    )
    rundata.save(msgspec.structs.replace(results, launches=injected), run)

    assert (
        "-"
        == table(run)[
            "1x H200, vllm-llama-3.1-8b-tp1, burst-100, output_throughput"
        ][1]
    )


def test_runs_of_two_kinds_are_refused(tmp_path):
    """A table is of one kind of GPU."""
    runs = [str(saved(tmp_path / kind, kind)) for kind in ("h200", "h100")]
    done = CliRunner().invoke(main, runs)

    assert 1 == done.exit_code
    assert "name runs of one kind of GPU" in done.output
