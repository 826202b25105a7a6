"""Comparability: what makes a comparison of two engines unfair is named."""

import msgspec
import pytest

from perfgate.cases import Case, Load
from perfgate.judge.baseline_store import Store
from perfgate.judge.comparability import engine_notes as notes_of
from perfgate.judge.comparability import kernel_notes, settings_of, unequal
from perfgate.judge.gate import judge_run
from perfgate.report.terminal import engine_notes
from perfgate.report.verdict_text import render
from perfgate.study import Versus
from tests.support import builders as m
from tests.support.builders import hardware, run
from tests.support.studies import study_of


def test_backends_may_differ():
    """They are what is compared."""
    assert [] == unequal(
        {"attention_backend": "fa3", "graphs": "on"},
        {"attention_backend": "FLASH_ATTN", "graphs": "on"},
    )


@pytest.mark.parametrize(
    "name",
    [
        "prefix_cache",
        "graphs",
        "dtype",
        "max_model_len",
        "weights",
        "chunked_prefill_tokens",
    ],
)
def test_what_decides_more_than_the_engines_is_named(name):
    """With both values; a setting that one engine does not tell counts as different."""
    assert [(name, "a", "b")] == [
        row[:3] for row in unequal({name: "a"}, {name: "b"})
    ]
    assert [(name, "(unknown)", "b")] == [
        row[:3] for row in unequal({}, {name: "b"})
    ]


def test_settings_are_shown_with_the_ratio(tmp_path):
    """Both engines' settings and what is unfair are in the message, and once under the table."""
    versus = Versus(
        candidate=study_of("cpu", "sglang", 2, "auto"),
        reference=study_of("cpu", "vllm", 2, "auto"),
    )
    cases = [
        versus.ratio(name, versus.models[0], versus.candidate.closed)
        for name in ("output_throughput", "itl_median_ms")
    ]
    values = {
        load: {"output_throughput": [50.0], "itl_median_ms": [9.0]}
        for load in cases[0].loads
    }
    results = run(values, cases, machine=hardware("cpu"))
    chosen = {"sglang": "torch_native", "vllm": "CPU_ATTN"}
    launches = tuple(
        msgspec.structs.replace(
            launch,
            effective={
                "attention_backend": chosen[launch.server.split("-")[0]]
            },
            settings={
                "prefix_cache": "on"
                if launch.server.startswith("vllm")
                else "off"
            },
        )
        for launch in results.launches
    )
    results = msgspec.structs.replace(results, launches=launches)
    verdicts = judge_run(results, Store(tmp_path))
    rows = tuple(
        verdict.row(case, "t")
        for verdict, case in zip(verdicts, cases, strict=True)
    )

    shown = engine_notes(msgspec.structs.replace(results, verdicts=rows))

    assert shown == notes_of(results, cases[0])
    assert ["sglang-mixtral-small-tp2", "vllm-mixtral-small-tp2"] == [
        line.split(":")[0] for line in shown[:2]
    ]
    assert [
        "attention_backend torch_native" in shown[0],
        "attention_backend CPU_ATTN" in shown[1],
    ] == [True, True]
    assert any(
        line.startswith("not comparable: prefix_cache is off vs on")
        for line in shown
    )
    assert any("PyTorch's operators" in line for line in shown)
    assert all(
        line in render(verdict) for verdict in verdicts for line in shown
    )


def test_settings_of_launches_that_chose_differently():
    """Both choices are shown: neither is that of the server."""
    load = Load(server=study_of("cpu", "vllm", 2, "auto").models[0])
    results = run({load: {"kv_cache_tokens": [9.0, 9.0]}}, [])
    launches = tuple(
        msgspec.structs.replace(launch, effective={"moe_backend": backend})
        for launch, backend in zip(results.launches, "AB", strict=True)
    )

    settings = settings_of(
        msgspec.structs.replace(results, launches=launches), load
    )

    assert ("A or B", "9") == (
        settings["moe_backend"],
        settings["kv_cache_tokens"],
    )


def test_one_engine_needs_no_such_lines():
    """The models of one engine are compared as ever."""
    asked = study_of("cpu", "vllm", 2, "auto")
    moe, dense = (
        Load(server=server, workload=asked.closed) for server in asked.models
    )

    assert [] == notes_of(
        run({}, []), asked.ratio("E1", "output_throughput", dense, moe)
    )


def test_other_kernels_of_a_layout_are_named_with_the_ratio(tmp_path):
    """Spread experts have no tuned kernel: that is a part of what spreading costs."""
    spread = msgspec.structs.replace(m.MOE, expert_parallel=True)
    numerator = Load(server=spread, workload=m.CLOSED)
    case = Case(
        experiment="E10",
        metric="itl_median_ms",
        numerator=numerator,
        denominator=m.MOE_LOAD,
    )
    values = {load: {"itl_median_ms": [9.0]} for load in case.loads}
    results = run(values, [case])
    config = {spread.key: "default", m.MOE.key: "E=8,N=7168.json"}
    launches = []
    for launch in results.launches:
        effective = {"moe_config": config[launch.server], "graphs": "on"}
        launches.append(msgspec.structs.replace(launch, effective=effective))
    results = msgspec.structs.replace(results, launches=tuple(launches))

    (note,) = kernel_notes(results, case)
    assert note.startswith("moe_config is default vs E=8,N=7168.json: ")
    assert [] == kernel_notes(results, m.ITL)
    assert [] == kernel_notes(results, m.RATIO)
    (decision,) = judge_run(results, Store(tmp_path))
    assert note in decision.details
