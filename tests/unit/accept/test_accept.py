"""Accepting runs: which of them become a baseline, and which are refused."""

import datetime
import math
import statistics

import msgspec
import pytest

from perfgate.accept.accept import accept, propose
from perfgate.accept.choice import Choice
from perfgate.accept.refusals import RecordingRefused
from perfgate.accept.retention import LAUNCHES_KEPT
from perfgate.judge.baseline_schema import read_recorded
from perfgate.judge.baseline_store import Store
from perfgate.judge.gate import judge_run
from perfgate.judge.verdict import Outcome
from perfgate.results import schema as rundata
from tests.support import builders as m

NO_CI: dict[str, str] = {}


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Store(tmp_path / "baselines")


@pytest.fixture
def saved(tmp_path):
    """Saves a run of the sparse server with these throughputs, one a launch; returns its folder."""

    def save(number, *throughputs, cases=(m.THROUGHPUT,), **how):
        values = {
            m.MOE_LOAD: {
                "output_throughput": throughputs,
                "itl_median_ms": [1e4 / (v or 1) for v in throughputs],
            }
        }
        results = m.run(
            values, cases, run_id=f"202606{number:02}-120000-1", **how
        )
        rundata.save(results, tmp_path / f"run-{number}")
        return tmp_path / f"run-{number}"

    return save


def taken(folders, store, **choice):
    """What `accept` does at a desk."""
    return accept(folders, store, Choice(**choice), env=NO_CI)


def metric_in(store, case=m.THROUGHPUT):
    """The recorded metric on disk."""
    return read_recorded(store.path(case, "h200x2")).metrics[case.metric]


def test_six_runs_at_once_make_an_established_baseline(saved, store):
    """Six launches of six runs that vary as on an H200: the policy's 2 % are to be caught.

    No target effect is stored, for no person chose one. The file knows all six runs.
    """
    folders = [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)]
    done = taken(folders, store)
    metric = metric_in(store)
    assert (6, 6, None, "hard") == (
        len(metric.launches),
        metric.runs,
        metric.target_effect,
        metric.gate,
    )
    assert 0.02 == done.proposals[0].target_effect
    assert "NOT_EXCLUDED" not in done.table
    assert 6 == len(
        read_recorded(store.path(m.THROUGHPUT, "h200x2")).provenance
    )


def test_first_run_is_provisional_and_then_judges(saved, store):
    """After one accepted run the next one has a verdict; its baseline is called provisional."""
    accepted = taken([saved(1, 1000.0)], store)
    assert "provisional" in accepted.table
    verdicts = judge_run(rundata.load(saved(2, 999.0)), store, m.TODAY)
    assert [Outcome.PASSED] == [v.outcome for v in verdicts]


def test_passing_launches_join_and_double_runs_do_not(saved, store):
    """A second run adds its launch; taking it over again changes nothing."""
    taken([saved(1, 1000.0)], store)
    second = saved(2, 1001.0)
    taken([second], store)
    taken([second], store)
    assert [1000.0, 1001.0] == [
        point.value for point in metric_in(store).launches
    ]


def test_the_oldest_launches_go(saved, store):
    """Of 32 runs the last 30 stay, and so does their provenance."""
    taken([saved(n, 1000.0 + n % 3) for n in range(1, 29)], store)
    for n in (29, 30, 31, 32):
        taken([saved(n, 1001.0)], store)
    file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
    assert LAUNCHES_KEPT == len(file.metrics["output_throughput"].launches)
    assert "20260603-120000-1" == file.provenance[0].run


def test_improvement_replaces(saved, store):
    """A value that improved starts anew: the mean of before and after describes neither."""
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    accepted = taken([saved(9, 1200.0)], store)
    assert [1200.0] == [point.value for point in metric_in(store).launches]
    assert "replaces the recorded launches" in accepted.table


def test_worse_values_need_a_reason(saved, store):
    """A loss of 10 % is refused without a reason, and the file stays.

    With a reason it is stored with the run.
    """
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    worse = saved(9, 900.0)
    with pytest.raises(RecordingRefused, match="worse: give a --reason"):
        taken([worse], store)
    assert 6 == len(metric_in(store).launches)
    taken([worse], store, reason="determinism mode is on by default now")
    file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
    assert ["determinism mode is on by default now"] == [
        entry.reason for entry in file.provenance
    ]


def test_a_reason_counts_where_it_is_needed(tmp_path, store):
    """One of two cases is worse: the anchor of the other one stays, and nothing excuses it."""

    def run(number, throughput, itl_ms):
        values = {"output_throughput": [throughput], "itl_median_ms": [itl_ms]}
        results = m.run(
            {m.MOE_LOAD: values},
            (m.THROUGHPUT, m.ITL),
            run_id=f"202606{number:02}-120000-1",
        )
        rundata.save(results, tmp_path / f"run-{number}")
        return tmp_path / f"run-{number}"

    taken(
        [run(n, 1000 * row, 10 / row) for n, row in enumerate(m.QUIET, 1)],
        store,
    )
    anchor = metric_in(store, m.ITL).anchor
    done = taken([run(9, 900.0, 10.01)], store, reason="a new driver")
    file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
    newest = file.provenance[-1]

    assert (m.THROUGHPUT.id,) == done.excused
    assert f"1 case accepted for the reason: {m.THROUGHPUT.id}" == done.reasoned
    assert ("a new driver", ("output_throughput",)) == (
        newest.reason,
        newest.excused,
    )
    assert not newest.excuses("itl_median_ms")
    assert anchor == metric_in(store, m.ITL).anchor
    assert 900.0 == pytest.approx(metric_in(store).anchor)


def test_ci_never_accepts(saved, store):
    """With CI set nothing is accepted, whatever the run."""
    with pytest.raises(RecordingRefused, match="CI job"):
        accept([saved(1, 1000.0)], store, Choice(), env={"CI": "true"})
    assert not store.root.exists()


def cut_off(folder, *servers):
    """The run was ended by somebody, while these servers were measured."""
    results = rundata.load(folder)
    launches = tuple(
        msgspec.structs.replace(launch, measured=launch.server not in servers)
        for launch in results.launches
    )
    rundata.save(
        msgspec.structs.replace(results, complete=False, launches=launches),
        folder,
    )


def test_run_that_measured_nothing_is_refused(saved, store):
    """There is nothing to resume on a machine where each test is skipped."""
    folder = saved(1, 1000.0)
    nothing = {"launches": (), "measurements": (), "cases": ()}
    results = msgspec.structs.replace(
        rundata.load(folder),
        **nothing,
        complete=False,
        finished="2026-06-01T12:00:00+00:00",
    )
    rundata.save(results, folder)

    with pytest.raises(RecordingRefused, match="it measured nothing"):
        taken([folder], store)


def test_run_without_a_whole_launch_is_refused(saved, store):
    """A session that was interrupted in its only launch is no baseline."""
    folder = saved(1, 1000.0)
    cut_off(folder, m.MOE_LOAD.server.key)
    with pytest.raises(
        RecordingRefused, match="cut off before it had measured a whole launch"
    ):
        taken([folder], store)


def test_whole_launch_of_a_run_that_was_cut_off_is_taken(saved, store):
    """What was measured is not lost with a machine.

    The launch that was cut off is refused by name, and so is its ratio.
    """
    dense = msgspec.structs.replace(m.THROUGHPUT, numerator=m.DENSE_LOAD)
    ratio = msgspec.structs.replace(m.THROUGHPUT, denominator=m.DENSE_LOAD)
    folder = saved(1, 1000.0)
    values = {
        load: {"output_throughput": [9000.0]}
        for load in (m.MOE_LOAD, m.DENSE_LOAD)
    }
    rundata.save(m.run(values, [m.THROUGHPUT, dense, ratio]), folder)
    cut_off(folder, m.MOE_LOAD.server.key)

    with pytest.raises(
        RecordingRefused,
        match=f"was cut off in a launch of {m.MOE_LOAD.server.key}: resume it",
    ) as no:
        taken([folder], store)
    assert [f"{m.THROUGHPUT.id} and 1 more"] == [
        line.split(": ")[0].strip() for line in no.value.seen.splitlines()
    ]
    assert not store.path(dense, "h200x2").exists()
    taken([folder], store, only=(dense.id,))
    assert [9000.0] == [
        point.value for point in metric_in(store, dense).launches
    ]


def test_injected_run_is_refused(saved, store):
    """A run whose servers were changed on purpose is no baseline."""
    with pytest.raises(
        RecordingRefused, match="had an injection: INJECTED token_delay_ms 5 ms"
    ):
        taken([saved(1, 1000.0, injected={"token_delay_ms": 5.0})], store)


def test_invalid_case_is_refused_and_the_rest_can_be_taken(saved, store):
    """A case of which no repetition counts is refused by name; --only takes another one."""
    values = {
        m.MOE_LOAD: {"output_throughput": [None]},
        m.DENSE_LOAD: {"output_throughput": [9000.0]},
    }
    dense = msgspec.structs.replace(m.THROUGHPUT, numerator=m.DENSE_LOAD)
    folder = saved(1, 1000.0)
    rundata.save(m.run(values, [m.THROUGHPUT, dense]), folder)
    with pytest.raises(RecordingRefused, match="is INVALID"):
        taken([folder], store)
    taken([folder], store, only=("*llama*",))
    assert [9000.0] == [
        point.value for point in metric_in(store, dense).launches
    ]
    assert not store.path(m.THROUGHPUT, "h200x2").exists()


def test_same_run_twice_is_refused(saved, store):
    """Naming a run twice would count its launches twice."""
    folder = saved(1, 1000.0)
    with pytest.raises(RecordingRefused, match="named twice"):
        taken([folder, folder], store)


def test_only_that_matches_nothing_is_refused(saved, store):
    """A misspelt case is not silently nothing."""
    with pytest.raises(
        RecordingRefused, match="matches none of 1 measured case"
    ):
        taken([saved(1, 1000.0)], store, only=("*/closed-c64/*",))


NOISY = (1.0, 1.042, 0.958, 1.028, 0.972, 1.0)


def test_what_no_launch_will_exclude_is_told_on_accept(saved, store):
    """Launches that vary by 3 % tell a loss to t(0.95; 5) x 3 % x sqrt(7/6).

    They are judged all the same. Only a person makes them report-only, or sets a target
    effect, with a reason.
    """
    folders = [saved(n, 1000 * factor) for n, factor in enumerate(NOISY, 1)]
    done = taken(folders, store)
    sigma = statistics.stdev(map(math.log, NOISY))
    margin = -math.expm1(-2.015 * sigma * math.sqrt(7 / 6))
    note = (
        f"will be NOT_EXCLUDED: these launches tell a loss to {100 * margin:.1f} %, "
        "and 5.0 % is wanted; record more launches"
    )
    assert note in done.table
    assert ("hard", None) == (metric_in(store).gate, metric_in(store).reason)
    assert metric_in(store).target_effect is None
    with pytest.raises(RecordingRefused, match="cannot be detected"):
        taken(folders, store, target_effect=0.05, reason="I want it so")
    with pytest.raises(RecordingRefused, match="needs a reason"):
        taken(folders, store, target_effect=0.25)
    taken(folders, store, report_only=True)
    assert "report" == metric_in(store).gate
    taken(
        folders, store, target_effect=0.25, reason="shared host", replace=True
    )
    assert ("hard", 0.25, "shared host") == (
        metric_in(store).gate,
        metric_in(store).target_effect,
        metric_in(store).reason,
    )


def test_launches_that_detect_nothing_can_be_read_again(saved, store):
    """Launches that vary by a factor of two set no target effect, whatever they detect."""
    folders = [
        saved(n, 1000.0 * 2.0 ** (n % 3), cases=(m.THROUGHPUT, m.ITL))
        for n in range(1, 7)
    ]
    taken(folders, store, report_only=True)

    metrics = read_recorded(store.path(m.THROUGHPUT, "h200x2")).metrics
    assert [None, None] == [row.target_effect for row in metrics.values()]
    with pytest.raises(RecordingRefused, match=r"100\.0 % is impossible"):
        taken(
            folders,
            store,
            target_effect=1.0,
            reason="all of it",
            replace=True,
            only=("*/output_throughput",),
        )


def test_wide_target_effect_survives_further_launches(saved, store):
    """A reason for a wide target effect is given once, not again for each further run."""
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(NOISY, 1)],
        store,
        target_effect=0.25,
        reason="shared host",
    )
    taken([saved(7, 1001.0)], store)
    assert (7, 0.25, "shared host") == (
        len(metric_in(store).launches),
        metric_in(store).target_effect,
        metric_in(store).reason,
    )


def test_reported_only_stays_so_until_it_is_said_otherwise(saved, store):
    """Further launches of a report-only metric need no flag again.

    --replace or --target-effect puts it back.
    """
    folders = [saved(n, 1000 * factor) for n, factor in enumerate(NOISY, 1)]
    taken(folders, store, report_only=True, reason="shared host")
    taken([saved(7, 1001.0)], store)
    assert (7, "report", "shared host") == (
        len(metric_in(store).launches),
        metric_in(store).gate,
        metric_in(store).reason,
    )
    taken([saved(8, 1002.0)], store, target_effect=0.25, reason="quieter now")
    assert ("hard", 0.25) == (
        metric_in(store).gate,
        metric_in(store).target_effect,
    )


def reconfigured(folder, *arguments):
    """The stored run, as if its server had these arguments."""
    results = rundata.load(folder)
    (server,) = results.servers.values()
    config = msgspec.structs.replace(server.config, extra_args=arguments)
    load = msgspec.structs.replace(m.MOE_LOAD, server=config)
    cases = [
        msgspec.structs.replace(case, numerator=load) for case in results.cases
    ]
    results = msgspec.structs.replace(
        results,
        cases=tuple(cases),
        servers={config.key: msgspec.structs.replace(server, config=config)},
    )
    rundata.save(results, folder)
    return folder


def test_runs_of_different_things_share_no_file(saved, store):
    """Each case alone has one configuration, and the file would have that of the last."""
    first = reconfigured(saved(1, 1000.0), "--slow")
    second = saved(2, 1000.0, cases=(m.ITL,))

    with pytest.raises(RecordingRefused, match=r"\(server_args\)"):
        taken([first, second], store)

    assert not store.path(m.THROUGHPUT, "h200x2").exists()


@pytest.mark.parametrize(
    ("only", "remedy"),
    [((), "measure the whole load"), (("*/itl_*",), "leave out --only")],
)
def test_remedy_of_what_would_be_lost_can_be_followed(
    saved, store, only, remedy
):
    """`--only` can be left out only where it was given."""
    taken([saved(1, 1000.0)], store)
    other = reconfigured(saved(2, 1000.0, cases=(m.ITL,)), "--slow")

    with pytest.raises(RecordingRefused, match=remedy):
        taken([other], store, only=only, replace=True)


def test_known_regression(saved, store):
    """A loss is accepted until a day: the launches stay, the entry holds loss and reason.

    The run passes until that day.
    """
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    worse = saved(9, 900.0)
    day = datetime.date(2026, 12, 31)
    with pytest.raises(RecordingRefused, match="needs a --reason"):
        taken([worse], store, known_until=day)
    taken([worse], store, known_until=day, reason="fix is on its way upstream")
    assert 6 == len(metric_in(store).launches)
    results = rundata.load(worse)
    outcomes = [
        judge_run(results, Store(store.root), today)[0].outcome
        for today in (day, day + datetime.timedelta(days=1))
    ]
    assert [Outcome.PASSED, Outcome.REGRESSED] == outcomes


def test_known_regression_needs_a_regression(saved, store):
    """What did not regress cannot be let pass."""
    taken([saved(1, 1000.0)], store)
    with pytest.raises(RecordingRefused, match="not a regression"):
        taken(
            [saved(2, 1000.0)],
            store,
            known_until=datetime.date(2026, 12, 31),
            reason="just in case",
        )


def test_accepting_anew_ends_a_known_regression(saved, store):
    """When the loss is gone, taking the run over removes the entry."""
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    taken(
        [saved(9, 900.0)],
        store,
        known_until=datetime.date(2026, 12, 31),
        reason="soon mended",
    )
    taken([saved(10, 1000.0)], store, reason="mended")
    assert metric_in(store).known is None


def test_other_hardware_goes_to_another_folder(saved, store):
    """An H100 run never touches the H200's file."""
    taken([saved(1, 1000.0)], store)
    taken([saved(2, 700.0, machine=m.hardware("h100"))], store)
    assert [1000.0] == [point.value for point in metric_in(store).launches]
    assert store.path(m.THROUGHPUT, "h100x2").exists()


def test_other_identity_starts_anew_but_loses_nothing_in_silence(saved, store):
    """A baseline of something else is replaced.

    Metrics that would vanish with it are named, and the run is refused.
    """
    taken([saved(1, 1000.0, cases=(m.THROUGHPUT, m.ITL))], store)
    dummy = msgspec.structs.replace(m.MOE, load_format="dummy")
    load = msgspec.structs.replace(m.MOE_LOAD, server=dummy)
    case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
    folder = saved(2, 1000.0)
    rundata.save(
        m.run(
            {load: {"output_throughput": [1000.0]}},
            [case],
            run_id="20260602-120000-1",
        ),
        folder,
    )
    with pytest.raises(RecordingRefused, match="itl_median_ms would be lost"):
        taken([folder], store)


def test_runs_of_different_things_are_not_pooled(saved, store):
    """Two runs with other weights in one command are refused, and the field is named."""
    load = msgspec.structs.replace(
        m.MOE_LOAD, server=msgspec.structs.replace(m.MOE, load_format="dummy")
    )
    case = msgspec.structs.replace(m.THROUGHPUT, numerator=load)
    other = saved(2, 1000.0)
    rundata.save(
        m.run(
            {load: {"output_throughput": [1000.0]}},
            [case],
            run_id="20260602-120000-1",
        ),
        other,
    )
    with pytest.raises(RecordingRefused, match="weights"):
        taken([saved(1, 1000.0), other], store)


def test_dry_run_writes_nothing(saved, store):
    """With write=False the table is there and the store is not."""
    done = accept([saved(1, 1000.0)], store, Choice(), env=NO_CI, write=False)
    assert m.THROUGHPUT.id in done.table
    assert not store.root.exists()


def test_ratio_keeps_both_sides(tmp_path, store):
    """A recorded ratio holds both of its sides, so that a message can say which one moved."""
    values = {
        m.DENSE_LOAD: {"output_throughput": [9000.0]},
        m.MOE_LOAD: {"output_throughput": [3000.0]},
    }
    rundata.save(m.run(values, [m.RATIO]), tmp_path / "run")
    taken([tmp_path / "run"], store)
    point = metric_in(store, m.RATIO).launches[0]
    assert (3.0, 9000.0, 3000.0) == (
        point.value,
        point.numerator,
        point.denominator,
    )


def test_proposal_is_written_with_the_run(saved, store, tmp_path):
    """A run writes the baseline as it would become, in the store's layout, and a table.

    The store stays untouched.
    """
    folder = saved(1, 1000.0)
    written = propose(
        rundata.load(folder), store, folder / "proposed-baselines"
    )
    expected = (
        folder
        / "proposed-baselines/h200x2/vllm-mixtral-8x7b-tp2/closed-c32.json"
    )
    assert [expected] == written
    assert 1 == len(
        read_recorded(expected).metrics["output_throughput"].launches
    )
    assert (
        m.THROUGHPUT.id in (folder / "proposed-baselines/diff.md").read_text()
    )
    assert not store.root.exists()


def test_proposal_of_an_interrupted_run_has_what_there_is(saved, store):
    """A run without any value proposes nothing: an empty table, and no error."""
    folder = saved(1, None)
    assert [] == propose(
        rundata.load(folder), store, folder / "proposed-baselines"
    )


def test_losses_that_pass_one_by_one_are_stopped_together(saved, store):
    """Runs of six launches, each 0.4 % worse than the one before, pass and join.

    They stop when the sum exceeds what passes.
    """
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    anchor = metric_in(store).anchor
    losses = [0.996**number for number in range(1, 20)]
    folders = [
        saved(n, *[1000 * loss * factor for factor in m.QUIET])
        for n, loss in enumerate(losses, 7)
    ]
    done = []

    def take_all() -> None:
        for folder in folders:
            taken([folder], store)
            done.append(folder)

    with pytest.raises(
        RecordingRefused, match="step by step it became worse by"
    ):
        take_all()
    assert (anchor, True) == (metric_in(store).anchor, 4 < len(done) < 15)
    taken([folders[len(done)]], store, reason="the new scheduler is worth it")
    assert metric_in(store).anchor < 0.99 * anchor


def test_to_begin_anew_is_no_way_around_the_sum(saved, store):
    """--replace without a reason keeps the value that losses are counted from.

    Each step is 0.6 % worse, less than half of 65 % of 2 %. Eight are 4.7 %, nine 5.3 %,
    and 5 % may add up. An improvement on it begins anew.
    """
    taken(
        [saved(n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)], store
    )
    anchor = metric_in(store).anchor
    for step in range(1, 9):
        value = 1000 * 0.994**step
        taken([saved(6 + step, *[value] * 6)], store, replace=True)
        assert anchor == metric_in(store).anchor
    last = saved(15, *[1000 * 0.994**9] * 6)
    with pytest.raises(RecordingRefused, match="step by step"):
        taken([last], store, replace=True)
    taken([saved(16, *[1100.0] * 6)], store)
    assert metric_in(store).anchor == pytest.approx(1100.0)


def test_what_is_recorded_of_something_else_is_not_thrown_away_unasked(
    saved, store
):
    """A run of another GPU product replaces the recorded one only on request."""
    taken([saved(1, 1000.0)], store)
    other = saved(
        2,
        1000.0,
        machine=msgspec.structs.replace(m.hardware(), name="NVIDIA H200 NVL"),
    )
    with pytest.raises(RecordingRefused, match="--replace"):
        taken([other], store)
    taken([other], store, replace=True)
    assert (
        "NVIDIA H200 NVL"
        == read_recorded(store.path(m.THROUGHPUT, "h200x2")).identity[
            "hardware_name"
        ]
    )


def test_a_run_names_the_metrics_that_were_accepted_of_it(saved, store):
    """Each run its own, though one file has the launches of both."""
    folders = [
        saved(1, 1000.0, cases=(m.THROUGHPUT, m.ITL)),
        saved(2, 1002.0, cases=(m.THROUGHPUT,)),
    ]
    taken(folders, store)

    file = read_recorded(store.path(m.THROUGHPUT, "h200x2"))
    metrics = [sorted(entry.metrics) for entry in file.provenance]
    assert [["itl_median_ms", "output_throughput"], ["output_throughput"]] == (
        metrics
    )


def test_a_run_that_was_accepted_proposes_nothing(saved, store):
    """Its launches are in the baseline already."""
    folder = saved(1, 1000.0)
    taken([folder], store)

    written = propose(
        rundata.load(folder), store, folder / "proposed-baselines"
    )

    assert [] == written
