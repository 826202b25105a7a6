"""Plan of a session: its servers, their time, and how to begin without baselines."""

import msgspec
import pytest

from perfgate.config.config import Config
from perfgate.engines.injection import Injection
from perfgate.judge.baseline_store import Store
from perfgate.report import plan as preview
from perfgate.results import schema as rundata
from tests.support import builders as m


def run(run_id="20260601-120000-1", **how):
    """Both servers, launched twice; each repetition took 4 s, each start 50 s."""
    values = {
        m.MOE_LOAD: {
            "output_throughput": [3000.0, 3010.0],
            "itl_median_ms": [10.0, 10.0],
        },
        m.DENSE_LOAD: {"output_throughput": [9000.0, 9010.0]},
    }
    return m.run(values, [m.THROUGHPUT, m.ITL, m.RATIO], run_id, **how)


@pytest.mark.parametrize(
    ("launches", "mode", "count"),
    [(1, "sequential", 1), (3, "sequential", 3), (1, "paired", 6)],
)
def test_what_a_launch_took_is_read_from_an_earlier_run(launches, mode, count):
    """Start and loads of the first complete launch; of pairs both builds count."""
    rows = preview.servers([m.THROUGHPUT, m.RATIO], launches, mode, [run()])

    # A start of 50 s and three repetitions of 4 s.
    assert [(m.MOE.key, count, 62.0), (m.DENSE.key, count, 62.0)] == [
        (r.key, r.launches, r.launch_s) for r in rows
    ]
    total = f"Total time: {2 * count * 62 / 60:.0f} min."
    assert total in preview.format_servers(rows, mode, 100)


def test_the_time_of_a_screen_is_without_its_pairs():
    """On a new machine each row is suspect, and a server has six launches more."""
    rows = preview.servers([m.THROUGHPUT], 1, "screened", [run()])

    lines = preview.format_servers(rows, "screened", 100)

    assert "Total time: 1 min, without pairs." in lines


@pytest.mark.parametrize("pairs", [1, 4])
def test_pairs_launch_both_builds(pairs):
    """Twice as many launches as pairs."""
    rows = preview.servers([m.THROUGHPUT], 1, "paired", [], pairs)

    assert [2 * pairs] == [row.launches for row in rows]


def test_what_no_run_tells_is_not_known():
    """A load that no launch was sent, or only one that was cut off: no guess is made."""
    cut = run()
    cut = msgspec.structs.replace(
        cut,
        launches=tuple(
            msgspec.structs.replace(launch, measured=False)
            for launch in cut.launches
        ),
    )
    burst = msgspec.structs.replace(
        m.THROUGHPUT,
        numerator=msgspec.structs.replace(m.MOE_LOAD, workload=m.BURST),
    )

    rows = [
        *preview.servers([burst], 1, "sequential", [run()]),
        *preview.servers([m.THROUGHPUT], 1, "sequential", [cut]),
    ]

    assert [None, None] == [row.launch_s for row in rows]
    assert (
        "Total time unknown: no earlier run measured all of these servers."
        in preview.format_servers(rows, "sequential", 100)
    )


def test_only_runs_of_such_hardware_tell(tmp_path):
    """The newest first; other machines, pairs of builds and what cannot be read are left out."""
    for number, how in enumerate(({}, {}, {"machine": m.hardware("h100")})):
        rundata.save(
            run(f"2026060{number + 1}-120000-1", **how), tmp_path / str(number)
        )
    pair = msgspec.structs.replace(
        run("20260604-120000-1"), base_builds={"vllm": "/base"}, mode="paired"
    )
    rundata.save(pair, tmp_path / "3")
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / rundata.RESULTS_FILE).write_text("{")

    found = list(preview.earlier_runs(tmp_path, m.hardware()))

    assert ["20260602-120000-1", "20260601-120000-1"] == [
        each.run_id for each in found
    ]


def planned(tmp_path, cases=(m.THROUGHPUT, m.ITL), **chosen):
    """A session of these cases without a baseline."""
    folders = {"run_dir": tmp_path, "store": Store(tmp_path), "runs": tmp_path}
    config = Config(
        **folders | {"arguments": ("-m", "h200", "--plan")} | chosen
    )
    return preview.PlannedSession(
        config, cases, m.hardware(), {"h200": None}, ()
    )


BASE = {"base_builds": {"vllm": "/base/python"}}
SCREEN = {**BASE, "pairs": "suspect"}


@pytest.mark.parametrize(
    ("chosen", "cases", "launches"),
    [
        ({}, [m.ITL], 3),
        (BASE, [m.ITL], 12),
        ({**BASE, "pairs": "one"}, [m.ITL], 2),
        (SCREEN, [m.ITL], 13),
        ({**SCREEN, "launches": 2}, [m.ITL], 14),
        ({**SCREEN, "base_builds": {"sglang": "python"}}, [m.ITL], 3),
        # Each server once for its own rows, once for a ratio that is suspect alone.
        (SCREEN, [m.ITL, m.RATIO], 50),
    ],
)
def test_most_launches(tmp_path, chosen, cases, launches):
    """What a session launches if every case needs all that it may get."""
    session = planned(tmp_path, cases, **chosen)

    assert launches == preview.most_launches(session)
    assert f"At most {launches} launches" in preview.text(session, 100)


def test_a_plan_without_baselines_begins_with_pairs(tmp_path):
    """The command can be copied; where it is that command already, recording is named."""
    text = preview.text(planned(tmp_path), 100)
    screened = preview.text(planned(tmp_path, **SCREEN), 100)
    paired = preview.text(planned(tmp_path, **BASE), 100)

    assert "No baseline here for 2 of 2 judged cases. Begin with pairs" in text
    assert (
        "\n    pytest -m h200 --against-engine vllm=PYTHON --pairs suspect "
        "--baseline-record"
    ) in text
    assert "pairs decide them. Record meanwhile" in screened
    assert "A suspect row launches base build and candidate" in screened
    assert "Begin with" not in paired


def test_the_command_measures_what_was_planned(tmp_path):
    """It is the command of the plan: the same tests, study, models, engines and builds."""
    given = (
        *("--pyargs", "perfgate.study", "-m", "h200", "-k", "batch and itl"),
        *("--study=my families.toml", "--engine", "vllm", "--plan"),
        *("--baseline-record", "--engine-python=vllm=/my/python"),
    )

    text = preview.text(planned(tmp_path, arguments=given), 300)

    assert (
        "\n    pytest --pyargs perfgate.study -m h200 -k 'batch and itl' "
        "'--study=my families.toml' --engine vllm --engine-python=vllm=/my/python "
        "--against-engine vllm=PYTHON --pairs suspect --baseline-record"
    ) in text


def test_a_plan_with_an_injection_records_nothing(tmp_path):
    """Its command would be refused."""
    injected = {"llama-3.1-8b": Injection(per_token_ms=1.0)}

    assert "Begin with" not in preview.text(
        planned(tmp_path, injections=injected), 100
    )


def test_a_plan_of_an_external_server_names_no_pairs(tmp_path):
    """Its operator launches it."""
    text = preview.text(
        planned(tmp_path, external_urls=("vllm=http://host",)), 100
    )

    assert "--pairs" not in text
    assert "At most" not in text


def test_a_narrow_terminal_gets_no_wider_line():
    """A command goes on behind a backslash; a log keeps the lines as they are."""
    command = "    pytest -m h200 --against-engine vllm=PYTHON --pairs suspect"
    text = f"{'word ' * 30}\n{command} --baseline-record --launches 3"
    lines = preview.fitted(text, 80).splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[-2].startswith(command[:60])
    assert lines[-2].endswith(" \\")
    assert text == preview.fitted(text, 140)


def test_a_name_is_shown_as_it_is(tmp_path):
    """Its brackets ask for no colour."""
    workload = msgspec.structs.replace(m.CLOSED, name="a[/b]:on:")
    load = m.Load(server=m.MOE, workload=workload)
    case = msgspec.structs.replace(m.ITL, numerator=load)

    text = preview.text(planned(tmp_path, [case]), 200)

    assert "a[/b]:on:" in text
