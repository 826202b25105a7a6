"""Page of a run: everything of the run, in words."""

from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.judge import gate
from perfgate.judge.baseline_store import Store
from perfgate.report import summary
from perfgate.report.page import MOST_BYTES, Report, build
from perfgate.results.timing import Session
from perfgate.servers.launch_record import PhaseTime
from tests.support import builders as m
from tests.support.judged_runs import EIGHT, judged, values


@pytest.fixture(scope="module")
def page():
    """The page of a failed run."""
    return build(Report([judged("REGRESSED", "PASSED", "INCONCLUSIVE")]))


def test_page_stands_alone(page):
    """The page needs nothing from outside and is small."""
    assert len(page.encode()) < MOST_BYTES
    assert [] == [
        word
        for word in ("<link", "src=", "@import", "http://cdn", "url(http")
        if word in page
    ]


def test_page_says_it_in_words(page):
    """The page has the headline, the change vs the noise, and the advice; quotes are escaped."""
    assert "</span> Worse: 1 of 3 judged values regressed</h1>" in page
    assert "Red: 1 of 3 rows regressed; 1 inconclusive; 1 passed" in page
    assert "-5.0 % (slower)" in page
    assert "<b>To do:</b> look" in page
    assert "&lt;less&gt; &amp; REGRESSED" in page


def test_every_figure_has_a_text_alternative(page):
    """Each drawing has a title and a description that its aria-labelledby names; ids are unique."""
    svgs = [part.partition("</svg>")[0] for part in page.split("<svg ")[1:]]
    ids = [part.split('"')[0] for part in page.split(' id="')[1:]]

    assert len(svgs) >= 10
    assert len(ids) == len(set(ids))
    for svg in svgs:
        title, description = (
            svg.split('aria-labelledby="')[1].split('"')[0].split()
        )
        assert f'<title id="{title}">' in svg
        assert (
            len(svg.split(f'<desc id="{description}">')[1].split("<")[0]) > 20
        )


def test_drawings_follow_the_theme(page):
    """No stand-in colour is left: all are the page's variables."""
    assert "#0102" not in page
    assert "var(--s1)" in page


def test_what_a_run_lacks_is_said(page):
    """A figure without data is left out with its reason."""
    assert (
        "<b>Expert load</b> is left out: no workload of this run records the routing."
        in page
    )
    assert "no case has a history of two runs or more" in page


def test_a_run_that_measured_nothing_has_a_page():
    """Nothing measured is the page of a failed run, and no error."""
    text = build(Report([m.run({}, [])]))

    assert "No verdict: nothing was measured" in text
    assert "Green" not in text


def test_two_runs_stand_side_by_side():
    """The table has a column for each run and one for the change.

    The last run is the one in question.
    """
    before, after = (
        judged("PASSED", run_id="20260601-120000-1"),
        judged("REGRESSED", run_id="20260602-120000-1"),
    )
    worse = msgspec.structs.replace(after.verdicts[0], value=900.0)
    text = build(
        Report([before, msgspec.structs.replace(after, verdicts=(worse,))])
    )

    assert "last vs first" in text
    assert "-10.0 % (slower)" in text
    assert text.index("Red: 1 of 1 rows regressed") < text.index(
        "Green: 1 of 1 rows passed"
    )


def test_a_page_that_grows_too_large_says_what_it_leaves_out():
    """Beyond its limit the messages of passed cases go, never those of failed ones."""
    results = judged("PASSED", "REGRESSED")
    long = msgspec.structs.replace(
        results.verdicts[0], summary="x" * MOST_BYTES
    )
    text = build(
        Report(
            [
                msgspec.structs.replace(
                    results, verdicts=(long, results.verdicts[1])
                )
            ]
        )
    )

    assert len(text.encode()) < MOST_BYTES
    assert "leaves out the details" in text
    assert "&lt;less&gt; &amp; REGRESSED" in text


def test_model_that_left_the_catalogue_is_shown_without_arithmetic():
    """A run that was recorded with another catalogue still has its page."""
    load = Load(
        server=msgspec.structs.replace(m.MOE, model="mixtral-gone"),
        workload=EIGHT,
    )

    assert "mixtral-gone" in build(Report([m.run({load: values()}, [])]))


def test_comparison_with_a_base_build():
    """Where base and candidate were launched in turn, the page names both.

    It draws the base's launches.
    """
    case = m.THROUGHPUT
    loads = {
        m.MOE_LOAD: {"output_throughput": [950.0] * 3},
        case.base.numerator: {"output_throughput": [1000.0] * 3},
    }
    results = msgspec.structs.replace(
        m.run(loads, [case]),
        base_builds={"vllm": "/opt/base/bin/python3"},
        mode="paired",
    )
    rows = tuple(
        verdict.row(case, "t")
        for verdict in gate.judge_run(results, Store(Path("none")))
    )
    text = build(
        Report(
            [msgspec.structs.replace(results, verdicts=rows)],
            Store(Path("none")),
        )
    )

    assert "Ticks: the launches of the base build." in text
    assert "-5.0 % (slower)" in text
    assert '<button type="button">base build</button>' in text


def test_where_the_time_went_is_shown():
    """In the summary and on the page: the suite's own share, and each step of server starts."""
    results = judged("PASSED")
    steps = (
        PhaseTime(name="loading weights", at_s=4.0, line=""),
        PhaseTime(name="compiling", at_s=10.0, line=""),
    )
    first, *others = results.launches
    started = msgspec.structs.replace(
        first,
        start=msgspec.structs.replace(first.start, phases=steps, ready_s=50.0),
    )
    session = Session(
        started_unix_s=0.0, seen_unix_s=100.0, start_s=50.0, load_s=46.0
    )
    results = msgspec.structs.replace(
        results, launches=(started, *others), sessions=(session,)
    )

    text, page = summary.markdown(results, None), build(Report([results]))

    assert (
        "Time: 100 s: server starts 50 s, load 46 s, suite overhead 4 s (4.0 %)"
        in text
    )
    assert f"| {first.server} | compiling | 40.0 | - |" in text
    assert "suite overhead 4 s (4.0 %)" in page
    assert "<td>compiling</td><td>40.0</td><td>-</td>" in page
