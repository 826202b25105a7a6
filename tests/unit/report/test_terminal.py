"""Terminal report: table, headline and messages."""

import msgspec
import pytest
from rich.text import Text

from perfgate.cases import Case, Load, title
from perfgate.engines.base import ServerConfig
from perfgate.load.workload import Workload
from perfgate.machine.hardware import attached
from perfgate.report import losses, verdict_text
from perfgate.report import terminal as report
from perfgate.results.schema import RunResults
from perfgate.results.verdict import Outcome, Verdict

SPARSE = ServerConfig(
    engine="vllm", model="mixtral-small", tensor_parallel_size=2
)
DENSE = msgspec.structs.replace(SPARSE, model="llama-small")
CLOSED = Workload(name="closed-c16", num_prompts=48, max_concurrency=16)
ALONE = Workload(name="single-stream", num_prompts=4, max_concurrency=1)


def case(of, denominator=None, metric="output_throughput", gate="hard"):
    """A case of loads that are (server, workload) pairs."""
    loads = [
        None if pair is None else Load(server=pair[0], workload=pair[1])
        for pair in (of, denominator)
    ]
    return Case(
        experiment="E1",
        metric=metric,
        numerator=loads[0],
        denominator=loads[1],
        gate=gate,
    )


def results(*outcomes):
    """A run with one case for each (outcome, gate)."""
    cases = [
        case((SPARSE, msgspec.structs.replace(CLOSED, name=f"w{n}")))
        for n in range(len(outcomes))
    ]
    rows = [
        Verdict(
            case=c.id,
            test="t",
            experiment="E1",
            metric=c.metric,
            outcome=Outcome(outcome),
            gate=gate,
            summary=f"about w{n}",
            value=95.0,
            unit="tok/s",
            baseline=100.0,
            change=-0.05,
        )
        for n, (c, (outcome, gate)) in enumerate(
            zip(cases, outcomes, strict=True)
        )
    ]
    return RunResults(
        run_id="r",
        suite_version="0",
        command=(),
        started="now",
        hardware=attached("cpu"),
        cases=tuple(cases),
        verdicts=tuple(rows),
    )


@pytest.mark.parametrize(
    ("of", "over", "words"),
    [
        ((SPARSE, CLOSED), None, "vllm mixtral-small-tp2, closed-c16"),
        ((SPARSE, None), None, "vllm mixtral-small-tp2, launch"),
        (
            (DENSE, CLOSED),
            (SPARSE, CLOSED),
            "vllm llama-small-tp2 / mixtral-small-tp2, closed-c16",
        ),
        (
            (SPARSE, CLOSED),
            (SPARSE, ALONE),
            "vllm mixtral-small-tp2, closed-c16 / single-stream",
        ),
        (
            (msgspec.structs.replace(SPARSE, engine="sglang"), CLOSED),
            (SPARSE, CLOSED),
            "sglang-mixtral-small-tp2 / vllm-mixtral-small-tp2, closed-c16",
        ),
    ],
)
def test_what_is_measured_is_named(of, over, words):
    """Servers and workloads are named once each, the engine in front where it is one."""
    assert words == title(case(of, over).id)


def test_what_needs_attention_comes_first():
    """Regressions stand at the top and reported rows at the bottom."""
    run = results(
        ("PASSED", "hard"),
        ("REGRESSED", "report"),
        ("NO_BASELINE", "hard"),
        ("REGRESSED", "hard"),
    )
    lines = [
        line
        for line in report.table(run, 150, terminal=False).splitlines()
        if " w" in line
    ]

    assert ["w3", "w2", "w0", "w1"] == [
        name for line in lines for name in line.split() if name.startswith("w")
    ]
    assert "REGRESSED (report-only)" in lines[-1]


def test_change_is_told_in_words():
    """The change is told as what it means for the metric."""
    assert "-5.0 % (slower)" in report.table(
        results(("PASSED", "hard")), 150, terminal=False
    )
    row = msgspec.structs.replace(
        results(("PASSED", "hard")).verdicts[0], noise=0.02, change=0.062
    )
    latency, ratio = (
        msgspec.structs.replace(row, unit=unit) for unit in ("ms", "x")
    )

    assert "+6.2 % (faster)" == verdict_text.change(row)
    assert "+6.2 % (slower)" == verdict_text.change(latency)
    assert "+6.2 %" == verdict_text.change(ratio)


def test_cases_share_a_row_where_many_are_judged():
    """What needs attention is counted in it; -v gives a row to every case."""
    well = results(*[("PASSED", "hard")] * 30, ("PASSED", "report"))
    ill = results(*[("PASSED", "hard")] * 30, ("REGRESSED", "hard"))
    note = "30 cases in 1 row, 1 report-only are not shown (-v and the report show all)"

    table = report.table(well, 150, False, False)
    assert note == table.splitlines()[-1]
    assert 1 == table.count("30 PASSED")
    assert 1 == report.table(ill, 150, False, False).count("REGRESSED")
    assert 30 == report.table(well, 150, False, True).count("PASSED") - 1


def test_table_folds_at_a_terminal_and_not_in_a_log():
    """A terminal gets rows of its own width, a log rows on one line."""
    run = results(("REGRESSED", "hard"), ("PASSED", "hard"))

    folded = [
        Text.from_ansi(line).cell_len
        for line in report.table(run, 110, terminal=True).splitlines()
    ]
    log = report.table(run, 80, terminal=False).splitlines()

    assert max(folded) <= 110
    assert 2 + 2 == len([line for line in log if line.strip()])


def test_only_judged_cases_are_explained():
    """Messages are those of judged cases that did not pass, and of improvements."""
    run = results(
        ("PASSED", "hard"),
        ("REGRESSED", "report"),
        ("IMPROVED", "hard"),
        ("REGRESSED", "hard"),
    )

    headings = [
        "REGRESSED: vllm mixtral-small-tp2, w3",
        "IMPROVED: vllm mixtral-small-tp2, w2",
    ]
    assert headings == [
        text.partition(", output")[0] for text in report.attention(run)
    ]
    assert ["REGRESSED: vllm mixtral-small-tp2", headings[1][:-4]] == [
        text.partition(": other")[0].partition(": throughput")[0]
        for text in losses.lines(run)
    ]


def test_cases_of_which_nothing_is_recorded_are_told_together():
    """One message with their number, and what to do once."""
    nothing = results(*[("NO_BASELINE", "hard")] * 3)
    rows = [
        msgspec.structs.replace(row, summary="nothing", advice="record it")
        for row in nothing.verdicts
    ]
    assert [
        "NO_BASELINE: 3 cases: nothing\n  do:   record it"
    ] == report.attention(
        msgspec.structs.replace(nothing, verdicts=tuple(rows))
    )


def test_headline_counts():
    """The headline counts judged, red, undecided, reported and missing cases."""
    run = results(
        ("PASSED", "hard"), ("NO_BASELINE", "hard"), ("PASSED", "report")
    )

    assert (
        "2 judged, 0 failed, 1 undecided, 1 report-only"
        == report.totals_line(run, "advisory", missing=0)
    )
    assert (
        "2 judged, 1 failed, 1 report-only, 1 without a verdict"
        == report.totals_line(run, "strict", 1)
    )


def run_of(*failed):
    """A run that judged each model's throughput and their ratio, some of which are REGRESSED."""
    cases = {
        "sparse": case((SPARSE, CLOSED)),
        "dense": case((DENSE, CLOSED)),
        "ratio": case((DENSE, CLOSED), (SPARSE, CLOSED)),
    }
    rows = results(
        *[
            ("REGRESSED" if name in failed else "PASSED", "hard")
            for name in cases
        ]
    ).verdicts
    rows = tuple(
        msgspec.structs.replace(
            row, case=c.id, moved="denominator" if c.denominator else None
        )
        for row, c in zip(rows, cases.values(), strict=True)
    )
    return msgspec.structs.replace(
        results(), cases=tuple(cases.values()), verdicts=rows
    )


def test_what_all_failures_share_is_said():
    """Failures of one server alone are told in one sentence; a ratio counts for its moved side."""
    told = (
        "All 2 failures are on vllm-mixtral-small-tp2; the 1 judged case "
        "without it did not fail."
    )
    assert told == report.in_common(run_of("sparse", "ratio"))
    assert "" == report.in_common(run_of("sparse", "dense", "ratio"))
    assert "" == report.in_common(run_of("ratio"))


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("name", ["a[/b]", "a[red]b", "[link=x]y", "a:on:b"])
def test_a_name_is_shown_as_it_is(name, everything):
    """Its brackets and colons ask for no colour, link or picture."""
    workload = msgspec.structs.replace(CLOSED, name=name)
    named = msgspec.structs.replace(case((SPARSE, workload)), experiment=name)
    run = results(("REGRESSED", "hard"))
    rows = (
        msgspec.structs.replace(
            run.verdicts[0], case=named.id, experiment=name
        ),
    )
    run = msgspec.structs.replace(run, cases=(named,), verdicts=rows)

    text = report.table(run, 200, False, everything)

    assert 2 == text.count(name)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_obeyed(no_color, monkeypatch):
    """Where it is set a terminal shows no colours, either."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    text = report.printed(Text("worse", style="red"), 80, terminal=True)

    assert ("worse" == text) == bool(no_color)
