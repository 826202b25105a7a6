"""`judge` and `accept`: messages and exit codes."""

import msgspec
import pytest

from perfgate.cli.gate import accept, judge
from perfgate.errors import FailureRow
from perfgate.results import schema as rundata
from tests.support import builders as m


def saved(tmp_path, number, value, **how):
    """A run folder with this throughput."""
    return (
        tmp_path
        / "runs"
        / m.saved(tmp_path / "runs", number, value, **how).run_id
    )


def test_accept_then_judge(call, tmp_path):
    """Six runs are accepted; a further unchanged run passes (0).

    One that lost 10 % fails (1) and says what to do.
    """
    store = tmp_path / "baselines"
    runs = [
        saved(tmp_path, n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)
    ]
    done = call(accept, *runs, "--baselines", store)
    assert 0 == done.exit_code, done.output
    assert (
        "| vllm-mixtral-8x7b-tp2/closed-c32/output_throughput | - | "
        "1,000 tok/s | new | 6 of 6 runs |"
    ) in done.output
    assert f"wrote {store}" in done.output
    good = call(
        judge, saved(tmp_path, 8, 1000.0), "--baselines", store, "--required"
    )
    bad = call(judge, saved(tmp_path, 9, 900.0), "--baselines", store)
    assert [0, 1] == [good.exit_code, bad.exit_code]
    assert "-10.0 % (slower)" in bad.output


def chosen(folder, backend):
    """The saved run with another MoE backend, chosen by the engine."""
    results = rundata.load(folder)
    launches = tuple(
        msgspec.structs.replace(launch, effective={"moe_backend": backend})
        for launch in results.launches
    )
    rundata.save(msgspec.structs.replace(results, launches=launches), folder)
    return folder


def test_a_loss_with_another_backend_fails_and_names_it(call, tmp_path):
    """Half of the speed is gone, and the engine chose otherwise: the run is red.

    The same choice without a loss is accepted, and said.
    """
    store = tmp_path / "baselines"
    runs = [
        chosen(saved(tmp_path, n, 1000 * factor), "TRITON")
        for n, factor in enumerate(m.QUIET, 1)
    ]
    call(accept, *runs, "--baselines", store)
    slower = chosen(saved(tmp_path, 8, 520.0), "CUTLASS")
    equal = chosen(saved(tmp_path, 9, 1000.0), "CUTLASS")

    bad = call(judge, slower, "--baselines", store)
    good = call(judge, equal, "--baselines", store, "--required")
    refused = call(accept, slower, "--baselines", store)
    joined = call(accept, equal, "--baselines", store)

    assert [1, 0] == [bad.exit_code, good.exit_code]
    assert (
        "cause: moe_backend TRITON -> CUTLASS, chosen by the engine"
        in bad.output
    )
    assert 0 != refused.exit_code
    assert 0 == joined.exit_code, joined.output
    assert (
        "the engine chose otherwise: moe_backend TRITON -> CUTLASS"
        in joined.output
    )


def test_judge_without_baseline(call, tmp_path):
    """Nothing recorded: skipped at a desk (0), failed in required mode (1)."""
    run = saved(tmp_path, 1, 1000.0)
    codes = [
        call(judge, run, "--baselines", tmp_path, *more).exit_code
        for more in ((), ("--required",))
    ]
    assert [0, 1] == codes


def test_judge_of_an_accepted_run_names_no_command_that_does_nothing(
    call, tmp_path
):
    """Its launches are left out, so the next run is what its baseline judges.

    Where further launches would exclude a loss, they are those of other runs.
    """
    store, first = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    new = call(judge, first, "--baselines", store.parent)
    assert 0 == call(accept, first, "--baselines", store).exit_code
    alone = call(judge, first, "--baselines", store)
    second = saved(tmp_path, 2, 970.0)
    reason = ("--reason", "slower")
    assert 0 == call(accept, second, "--baselines", store, *reason).exit_code
    beside = call(judge, second, "--baselines", store)

    assert f"`perfgate accept {first} --base" in new.output
    assert "no other run than this one is recorded" in alone.output
    assert "This run is in the baseline already" in alone.output
    assert "NOT_EXCLUDED" in beside.output
    assert "of other runs, or launch it in turn" in beside.output
    for done in (alone, beside):
        assert "perfgate accept" not in done.output


def test_commands_name_the_store_that_judges(call, tmp_path):
    """Without it a run would be accepted into the project's own store."""
    store = tmp_path / "a store"
    store.mkdir()
    run = saved(tmp_path, 1, 1000.0)
    judged = call(judge, run, "--baselines", store)
    refused = call(accept, run, "--baselines", store, "--only", "x")

    assert (
        f"`perfgate accept {run} --baselines '{store}'` makes" in judged.output
    )
    assert f"`perfgate judge {run} --baselines '{store}' -v`" in str(
        refused.exception
    )


def test_judge_of_a_run_without_cases_fails(call, tmp_path):
    """A run that asked nothing never passes."""
    rundata.save(m.run({}, []), tmp_path / "empty")
    assert (
        1 == call(judge, tmp_path / "empty", "--baselines", tmp_path).exit_code
    )


def test_judge_of_a_run_whose_server_did_not_start_fails(call, tmp_path):
    """Also where that server's values are only reported; it says why, and what to do."""
    row = FailureRow(
        tried="launched it", seen="exited with status 1", remedy="use more GPUs"
    )
    quiet = msgspec.structs.replace(m.THROUGHPUT, gate="report")
    results = msgspec.structs.replace(
        m.run({}, [quiet]), failures={m.MOE.key: row}
    )
    rundata.save(results, tmp_path / "run")

    done = call(judge, tmp_path / "run", "--baselines", tmp_path)

    assert 1 == done.exit_code
    assert (
        f"{m.MOE.key} failed: exited with status 1. To do: use more GPUs"
        in done.output
    )


def test_judge_of_a_run_that_was_cut_off_says_so(call, tmp_path):
    """What it had measured whole may pass (0), a launch that was cut off is INVALID (1).

    With --required an incomplete run never passes.
    """
    store, run = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    assert 0 == call(accept, run, "--baselines", store).exit_code
    results = rundata.load(saved(tmp_path, 2, 1000.0))
    launches = tuple(
        msgspec.structs.replace(launch, measured=False)
        for launch in results.launches
    )
    for name, changes in (
        ("ended", {"complete": False}),
        ("cut", {"complete": False, "launches": launches}),
        ("early", {"complete": False, "launches": (), "measurements": ()}),
    ):
        changed = msgspec.structs.replace(results, **changes)
        rundata.save(changed, tmp_path / name)

    def judged(name, *more):
        return call(judge, tmp_path / name, "--baselines", store, *more)

    assert 0 == judged("ended").exit_code
    assert 1 == judged("ended", "--required").exit_code
    cut = judged("cut")
    assert 1 == cut.exit_code
    assert "INVALID" in cut.output
    assert f"The run was cut off in launch 1 of {m.MOE.key}" in cut.output
    early = judged("early")
    assert "INVALID: " in early.output
    assert "the run ended before it was measured" in early.output
    for name, done in (("cut", cut), ("early", early)):
        line = f"Next: Resume the run: the same command with --run-dir={tmp_path / name}"
        assert line in done.output
    assert "was cut off" not in call(judge, run, "--baselines", store).output


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (
            {"lacking": {"a/b/c": "needs sglang"}},
            "No verdict for 1 case (fails with --gate=required): needs sglang",
        ),
        (
            {"left_out": ("3 cases by -k",)},
            "Only part of the suite ran (fails with --gate=required); not run: 3 cases by -k",
        ),
    ],
    ids=["not-possible-here", "not-selected"],
)
def test_judge_of_a_run_that_did_not_ask_everything(
    call, tmp_path, missing, said
):
    """Cases that the machine could not run, or that nobody asked, have no verdict.

    They are reported, and fail the run only where all is required.
    """
    store, run = tmp_path / "baselines", saved(tmp_path, 1, 1000.0)
    assert 0 == call(accept, run, "--baselines", store).exit_code
    results = rundata.load(saved(tmp_path, 2, 1000.0))
    rundata.save(msgspec.structs.replace(results, **missing), tmp_path / "run")

    done = [
        call(judge, tmp_path / "run", "--baselines", store, *more)
        for more in ((), ("--required",))
    ]

    assert [0, 1] == [one.exit_code for one in done]
    assert said in done[0].output


def test_dry_run(call, tmp_path):
    """--dry-run shows and writes nothing."""
    done = call(
        accept,
        saved(tmp_path, 1, 1000.0),
        "--baselines",
        tmp_path / "store",
        "--dry-run",
    )
    assert "would write" in done.output
    assert not (tmp_path / "store").exists()


def test_accept_refuses_in_ci(call, tmp_path, monkeypatch):
    """With CI=true the command fails and writes nothing."""
    run = saved(tmp_path, 1, 1000.0)
    monkeypatch.setenv("CI", "true")
    done = call(accept, run, "--baselines", tmp_path / "store")
    assert 0 != done.exit_code
    assert "CI job" in str(done.exception)


def test_judge_by_another_ceiling(call, tmp_path):
    """A loss of 1.2 % passes where 5 % may pass; 1.5 % is not excluded then."""
    store = tmp_path / "baselines"
    runs = [
        saved(tmp_path, n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)
    ]
    call(accept, *runs, "--baselines", store)
    run = saved(tmp_path, 8, 988.0)

    usual, tight = (
        call(judge, run, "--baselines", store, "--strict", *more)
        for more in ((), ("--fail-over", "2 %"))
    )
    typo = call(judge, run, "--fail-over", "thruput=3%")

    assert [0, 1] == [usual.exit_code, tight.exit_code], tight.output
    assert "NOT_EXCLUDED" in tight.output
    assert 0 != typo.exit_code
    assert "did you mean throughput?" in str(typo.output) + str(typo.exception)


def test_judge_leaves_the_run_itself_out(call, tmp_path):
    """Of six accepted runs each is judged by the five others, and it says so."""
    store = tmp_path / "baselines"
    runs = [
        saved(tmp_path, n, 1000 * factor) for n, factor in enumerate(m.QUIET, 1)
    ]
    assert 0 == call(accept, *runs, "--baselines", store).exit_code
    new = saved(tmp_path, 8, 1000.0)

    own = call(judge, runs[0], "--baselines", store, "-v")
    other = call(judge, new, "--baselines", store, "-v")

    assert "Baseline: 5 launches of 5 runs." in own.output
    assert "Baseline: 6 launches of 6 runs." in other.output
    line = f"by the baselines in {store}, without launches of this run."
    assert line in own.output.splitlines()[0]


def test_judge_as_then_shows_what_is_stored(call, tmp_path):
    """No baseline is read, and no ceiling applies."""
    run = saved(tmp_path, 1, 1000.0)

    then = call(judge, run, "--as-then")
    both = call(judge, run, "--as-then", "--fail-over", "5%")

    assert then.output.startswith("As it was judged on 2026-06-01")
    assert "--fail-over judges again" in both.output
    assert 2 == both.exit_code


def test_a_store_in_the_home_folder(call, tmp_path, monkeypatch):
    """A shell leaves the "~" of --baselines=~/store as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    run = saved(tmp_path, 1, 1000.0)

    done = call(accept, run, "--baselines=~/store")

    assert 0 == done.exit_code, done.output
    assert f"wrote {tmp_path / 'store'}" in done.output
    assert 0 == call(judge, run, "--baselines=~/store").exit_code
