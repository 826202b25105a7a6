"""Is a run shown whole, in words, and in the forms that other tools read?"""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.errors import FailureRow
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.judge.verdict import Outcome, Verdict
from perfgate.load.repetition import RequestRow
from perfgate.load.workload import Workload
from perfgate.report import artifacts as written
from perfgate.report import exports, summary
from perfgate.report.figures import load as figures_load
from perfgate.report.figures import server as figures_server
from perfgate.report.figures.series import Readings, timeline
from perfgate.report.headline import attention, verdict_sentence
from perfgate.report.page import MOST_BYTES, Report, build
from perfgate.results.timing import Session
from perfgate.servers.launch_record import PhaseTime
from tests.unit import measured as m

ONE, EIGHT = (Workload(name=f"batch-{n}", num_prompts=8 * n, max_concurrency=n) for n in (1, 8))
SLOW, FAST = (Workload(name=f"rate-{n}", num_prompts=100, request_rate=float(n)) for n in (1, 2))
DENSE_1 = msgspec.structs.replace(m.DENSE, tensor_parallel_size=1)


def values(itl=8.0, throughput=1000.0):
    """What one load came to on three launches."""
    return {
        "itl_median_ms": [itl, itl * 1.01, itl * 0.99],
        "ttft_median_ms": [itl * 3] * 3,
        "output_throughput": [throughput] * 3,
    }


def judged(*outcomes, **how):
    """A run of every kind of load, with one verdict for each outcome."""
    loads = {Load(server=s, workload=w): values() for s in (m.MOE, m.DENSE) for w in (ONE, EIGHT, SLOW, FAST)}
    loads[Load(server=DENSE_1, workload=EIGHT)] = values(12.0, 700.0)
    held = {"weights_bytes_per_rank": [46.7e9], "memory_peak_bytes": [130e9], "kv_cache_bytes": [70e9]}
    loads[Load(server=m.MOE)] = held
    cases = [m.Case(experiment="E1", metric="output_throughput", of=load) for load in loads if load.workload]
    results = m.run(loads, cases[: len(outcomes)], **how)
    rows = tuple(
        Verdict(
            case=case.id,
            metric=case.metric,
            outcome=Outcome(outcome),
            gate="hard",
            summary=f"<less> & {outcome}",
            unit="tok/s",
            advice="look",
            value=1000.0,
            baseline=1050.0,
            change=-0.05,
            worse_by=0.05,
            threshold=0.02,
            noise=0.016,
            launches=3,
        ).row(case, "t")
        for case, outcome in zip(results.cases, outcomes, strict=True)
    )
    return with_requests(msgspec.structs.replace(results, verdicts=rows))


def with_requests(results):
    """The run with eight requests in each repetition, all of whose streams stall once."""
    row = RequestRow(
        scheduled_ms=0.0,
        sent_ms=1.0,
        ttft_ms=20.0,
        e2el_ms=640.0,
        output_tokens=32,
        itl_ms=(8.0,) * 20 + (500.0,) + (8.0,) * 10,
        error=None,
    )
    rows = tuple(
        msgspec.structs.replace(
            measurement,
            repetitions=tuple(
                msgspec.structs.replace(r, requests=(row,) * 8, duration_s=0.8) for r in measurement.repetitions
            ),
        )
        for measurement in results.measurements
    )
    return msgspec.structs.replace(results, measurements=rows)


@pytest.fixture(scope="module")
def page():
    """The page of a red run."""
    return build(Report([judged("REGRESSED", "PASSED", "INCONCLUSIVE")]))


def test_page_stands_alone(page):
    """The page needs nothing from outside and is small."""
    assert len(page.encode()) < MOST_BYTES
    assert [] == [word for word in ("<link", "src=", "@import", "http://cdn", "url(http") if word in page]


def test_page_says_it_in_words(page):
    """The headline, the change beside the noise, and what to do stand in the page; what is quoted is escaped."""
    assert "<h1>✗ Red: 1 of 3 judged cases passed; 1 INCONCLUSIVE, 1 REGRESSED</h1>" in page
    assert "-5.0 % (slower), 3.2x the noise" in page
    assert "<b>To do:</b> look" in page
    assert "&lt;less&gt; &amp; REGRESSED" in page


def test_every_figure_has_a_text_alternative(page):
    """Each drawing has a title and a description that its aria-labelledby names; ids are unique."""
    svgs = [part.partition("</svg>")[0] for part in page.split("<svg ")[1:]]
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]

    assert len(svgs) >= 10
    assert len(ids) == len(set(ids))
    for svg in svgs:
        title, description = svg.split('aria-labelledby="')[1].split('"')[0].split()
        assert f'<title id="{title}">' in svg
        assert len(svg.split(f'<desc id="{description}">')[1].split("<")[0]) > 20


def test_drawings_follow_the_theme(page):
    """No stand-in colour is left: all are the page's variables."""
    assert "#0102" not in page
    assert "var(--s1)" in page


def test_what_a_run_lacks_is_said(page):
    """A figure without data is left out with its reason."""
    assert "<b>Expert load</b> is left out: this run has no count of the tokens that each expert got." in page
    assert "no history of two runs or more was given" in page


def test_a_run_that_measured_nothing_has_a_page():
    """Nothing measured is a red page, and no error."""
    text = build(Report([m.run({}, [])]))

    assert "No verdict: nothing was measured" in text
    assert "Green" not in text


def test_two_runs_stand_side_by_side():
    """The table has a column for each run and the change between them; the last one is in question."""
    before, after = judged("PASSED", run_id="20260601-120000-1"), judged("REGRESSED", run_id="20260602-120000-1")
    worse = msgspec.structs.replace(after.verdicts[0], value=900.0)
    text = build(Report([before, msgspec.structs.replace(after, verdicts=(worse,))]))

    assert "last vs first" in text
    assert "-10.0 % (slower)" in text
    assert text.index("Red: 0 of 1") < text.index("Green: 1 of 1")


def test_a_page_that_grows_too_large_says_what_it_leaves_out():
    """Beyond its limit the messages of passed cases go, never those of failed ones."""
    results = judged("PASSED", "REGRESSED")
    long = msgspec.structs.replace(results.verdicts[0], summary="x" * MOST_BYTES)
    text = build(Report([msgspec.structs.replace(results, verdicts=(long, results.verdicts[1]))]))

    assert len(text.encode()) < MOST_BYTES
    assert "leaves out the details" in text
    assert "&lt;less&gt; &amp; REGRESSED" in text


def test_incomplete_required_run_is_red():
    """In required mode a case without a verdict is red, and counted."""
    results = msgspec.structs.replace(judged("PASSED", "PASSED"), gate="required")
    assert "Red: 1 of 1 judged cases passed; 1 without a verdict" == verdict_sentence(
        msgspec.structs.replace(results, verdicts=results.verdicts[:1])
    )


def test_a_server_that_could_not_be_had_is_red_and_named():
    """Its values are only reported here, so that no case is red: the run is, and says why before anything else."""
    row = FailureRow(tried="launched it", seen="exited with status 1", remedy="use more GPUs", detail="its log")
    results = judged("PASSED")
    results = msgspec.structs.replace(
        results, cases=results.cases[:1], failures={"vllm-mixtral-small-tp2": row, "vllm-other-tp2": row}
    )

    assert "Red: 1 of 1 judged cases passed; 2 servers failed to start" == verdict_sentence(results)
    for text in (summary.markdown(results, None), build(Report([results]))):
        assert "vllm-mixtral-small-tp2 failed to start: exited with status 1. To do: use more GPUs" in text
    assert "::error title=vllm-mixtral-small-tp2 failed to start::exited with status 1. use more GPUs" in (
        summary.workflow_commands(results, {"GITHUB_ACTIONS": "true"})
    )


def test_what_was_not_judged_is_not_green():
    """A run in which a case was not decided is neither red nor green at a desk, and one that judged nothing too."""
    results = judged("PASSED", "NO_BASELINE")
    reported = tuple(msgspec.structs.replace(row, gate="report") for row in results.verdicts)

    assert "Undecided: 1 of 2 judged cases passed; 1 NO_BASELINE" == verdict_sentence(results)
    assert "Undecided: nothing was judged, 2 values report-only" == verdict_sentence(
        msgspec.structs.replace(results, verdicts=reported)
    )
    assert "<h1>? Undecided" in build(Report([results]))


def test_cases_of_which_the_same_was_seen_are_one_item():
    """Ten cases without a baseline are one thing to do, told once, with all their names; a regression stands alone."""
    items = attention(judged("NO_BASELINE", "REGRESSED", "NO_BASELINE", "REGRESSED"))

    assert ["batch-8, output_throughput", "rate-2, output_throughput", "2 cases"] == [
        item.title.partition(": ")[2].removeprefix("vllm mixtral-8x7b-tp2, ") for item in items
    ]
    assert "batch-1, output_throughput; vllm mixtral-8x7b-tp2, rate-1, output_throughput" in items[-1].finding
    assert "look" == items[-1].advice
    assert 2 == len(items[-1].messages)


@pytest.mark.parametrize(("server", "share"), [(m.MOE, 1), (m.MOE_CPU, 2)])
def test_memory_is_that_of_one_rank(server, share):
    """On a GPU the peak is one rank's; on the CPU it is that of all processes, of which each rank has its share."""
    held = {"weights_bytes_per_rank": [10e9], "kv_cache_bytes": [20e9], "memory_peak_bytes": [80e9]}
    picture = figures_server.memory(Readings(m.run({Load(server=server): held}, [])), "")
    rest = (80 - share * 30) / share

    assert ((server.key, "10 GB", "20 GB", "0 GB", f"{rest:.3g} GB"),) == picture.rows
    assert ("Memory per GPU", "Memory per rank")[share - 1] == picture.title


def test_batches_are_of_one_kind_of_prompts():
    """Closed loops with other prompts are no part of the sweep."""
    other = Workload(
        name="closed-c4",
        num_prompts=8,
        max_concurrency=4,
        prompts=msgspec.structs.replace(ONE.prompts, output_len_tokens=7),
    )
    results = msgspec.structs.replace(judged("PASSED"), workloads={w.name: w for w in (other, EIGHT, ONE, FAST)})

    assert ["batch-1", "batch-8"] == [w.name for w in Readings(results).batches()]


def test_ratio_stands_beside_its_line_at_each_batch():
    """Every closed loop that both models had, each with the ratio of the bytes that its steps read."""
    picture = figures_load.sparse_over_dense(Readings(judged("PASSED")), "")

    pair = "vllm-mixtral-8x7b-tp2 / vllm-llama-3.1-8b-tp2"
    lines = [row[-1] for row in picture.rows]
    assert [(pair, "batch-1", "1", "1.00x"), (pair, "batch-8", "8", "1.00x")] == [row[:-1] for row in picture.rows]
    # 25.5 over 15.0 GB, and 84.3 over 15.1 GB, KV cache included
    assert ["1.70x", "5.59x"] == lines


def test_model_that_left_the_catalogue_is_shown_without_arithmetic():
    """A run that was recorded with another catalogue still has its page."""
    load = Load(server=msgspec.structs.replace(m.MOE, model="mixtral-gone"), workload=EIGHT)

    assert "mixtral-gone" in build(Report([m.run({load: values()}, [])]))


def test_timeline_shows_the_stall():
    """The slice in which all streams stalled holds the longest gap."""
    line = timeline(judged("PASSED").measurements[0].repetitions[0])

    assert line is not None
    assert 500.0 == max(gap for gap in line.longest_ms if gap > 0)
    assert 8 == line.streams.max()


def test_summary_is_cut_with_a_sentence():
    """A summary that does not fit ends at the end of a line and says so; one that fits is whole."""
    text = "line\n" * 1000
    cut = summary.fitted(text, 500)

    assert text == summary.fitted(text, 5000)
    assert len(cut.encode()) <= 500
    assert "the summary has 5,000 bytes, the limit here is 500" in cut


def test_a_cut_leaves_nothing_open():
    """Where a cut falls into a quoted message that ends first, so that the sentence is read."""
    text = "<details><summary>all</summary>\n\n```\n" + "line\n" * 1000 + "```\n\n</details>\n"
    cut = summary.fitted(text, 500)

    assert 2 == cut.count("```")
    assert 1 == cut.count("</details>")
    assert cut.index("</details>") < cut.index("**Cut here:**")
    assert len(cut.encode()) <= 500


def test_step_summary_and_annotations(tmp_path):
    """In GitHub Actions the summary is appended to the step's; red cases are errors, undecided ones warnings."""
    results, step = judged("REGRESSED", "PASSED", "INCONCLUSIVE"), tmp_path / "step.md"
    step.write_text("before\n")
    environment = {"GITHUB_STEP_SUMMARY": str(step), "GITHUB_ACTIONS": "true"}
    told = written.write_safely(lambda: Report([results]), tmp_path / "run", environment)

    assert step.read_text().startswith("before\n## ✗ Red: 1 of 3")
    assert ["::error", "::warning", "report:"] == [line.split()[0] for line in told]
    assert "%0A  do:   look" in told[0]
    assert [] == summary.workflow_commands(results, {})


def test_an_error_in_the_report_is_said(tmp_path):
    """Whatever the report runs into is a line for the terminal."""
    (line,) = written.write_safely(lambda: Report([]), tmp_path, {})

    assert "no report: IndexError" in line


def test_ctrl_c_ends_the_drawing_alone(tmp_path):
    """Who does not wait for the report has the verdicts all the same, and is told how to have it drawn."""

    def interrupted() -> Report:
        raise KeyboardInterrupt

    (line,) = written.write_safely(interrupted, tmp_path, {})

    assert f"no report: KeyboardInterrupt (`perfgate report {tmp_path}` tries again)" == line


def test_junit_has_a_case_for_each_metric():
    """One suite a server, one case a workload and metric, figures as properties, red ones failed."""
    tree = ElementTree.fromstring(exports.junit(judged("REGRESSED", "PASSED", "INCONCLUSIVE")))
    case = next(c for c in tree.iter("testcase") if c.find("failure") is not None)
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}

    assert ("3", "1", "1") == (tree.get("tests"), tree.get("failures"), tree.get("skipped"))
    assert "batch-1/output_throughput" == case.get("name")
    assert ("1000", "1050", "tok/s") == tuple(properties[name] for name in ("value", "baseline", "unit"))


def test_pytest_benchmark_reads_our_data(tmp_path):
    """Its own compare and histogram work on two of our runs; a rate is seconds per token there."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(exports.pytest_benchmark(judged("PASSED", "PASSED")))
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "pytest_benchmark",
        "compare",
        "a.json",
        "b.json",
        "--histogram=hist",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    first = json.loads((tmp_path / "a.json").read_text())["benchmarks"][0]

    assert 0 == done.returncode, done.stderr
    assert "vllm-mixtral-8x7b-tp2/batch-1/output_throughput" in done.stdout
    assert list(tmp_path.glob("hist*.svg"))
    assert (0.001, "s per token") == (pytest.approx(first["stats"]["median"]), first["extra_info"]["unit"])


def test_drift_is_counted(tmp_path):
    """What differs from the baseline's context stands in the page with both values."""
    results = judged("PASSED", machine=m.hardware(driver="590.9"))
    store = Store(tmp_path)
    recorded = m.recorded(results.cases[0], [1000.0] * 6)
    store.find = lambda case, label: recorded
    text = build(Report([results], store))

    assert '<th scope="row">driver</th><td>590.9</td><td>580.1</td><td>1</td>' in text


def test_beside_a_base_build():
    """Where base and candidate were launched in turn the page names them, and draws the base's launches."""
    case = m.THROUGHPUT
    loads = {m.MOE_LOAD: {"output_throughput": [950.0] * 3}, case.base.of: {"output_throughput": [1000.0] * 3}}
    results = msgspec.structs.replace(m.run(loads, [case]), against={"vllm": "/opt/base/bin/python3"})
    rows = tuple(verdict.row(case, "t") for verdict in gate.judge_run(results, Store(Path("none"))))
    text = build(Report([msgspec.structs.replace(results, verdicts=rows)], Store(Path("none"))))

    assert "Ticks: the launches of the base build." in text
    assert "-5.0 % (slower)" in text
    assert '<button type="button">base build</button>' in text


def test_where_the_time_went_is_shown():
    """In the summary and on the page: the suite's own share, and each step of the servers' starts."""
    results = judged("PASSED")
    steps = (PhaseTime(name="loading weights", at_s=4.0, line=""), PhaseTime(name="compiling", at_s=10.0, line=""))
    first, *others = results.launches
    started = msgspec.structs.replace(first, start=msgspec.structs.replace(first.start, phases=steps, ready_s=50.0))
    session = Session(started_unix_s=0.0, seen_unix_s=100.0, start_s=50.0, load_s=46.0)
    results = msgspec.structs.replace(results, launches=(started, *others), sessions=(session,))

    text, page = summary.markdown(results, None), build(Report([results]))

    assert "Time: 100 s: servers' start 50 s, load 46 s, the suite itself 4 s, 4.0 %" in text
    assert f"| {first.server} | compiling | 40.0 | - |" in text
    assert "the suite itself 4 s, 4.0 %" in page
    assert "<td>compiling</td><td>40.0</td><td>-</td>" in page
