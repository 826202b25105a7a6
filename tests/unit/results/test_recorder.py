"""The recorder writes what was measured at once, and cheaply."""

import msgspec

from perfgate.results.recorder import LaunchEnd, LaunchFigures, Recorder
from perfgate.results.schema import Measurement, Server, load, save
from tests.support.builders import (
    CLOSED,
    DENSE_CPU,
    DIED,
    MOE_CPU,
    bare_run,
    launched,
    repetition,
)

SERVERS = {MOE_CPU.key: Server(config=MOE_CPU, python="p", versions={})}


def test_a_measurement_is_a_line_of_its_own(tmp_path):
    """So that a difference of two runs shows which load it is in."""
    row = Measurement(
        server=MOE_CPU.key,
        launch=0,
        workload=CLOSED.name,
        repetitions=(repetition(0, {"itl_median_ms": 8.0}),),
    )
    other = msgspec.structs.replace(row, launch=1)
    run = bare_run(
        servers=SERVERS,
        workloads={CLOSED.name: CLOSED},
        launches=(launched(0), launched(1)),
        measurements=(row, other),
    )
    recorder = Recorder(run, tmp_path)
    again = msgspec.structs.replace(other, failure=DIED)
    recorder.put_measurement(again)
    recorder.finish()

    assert (row, again) == load(tmp_path).measurements
    text = (tmp_path / "results.json").read_text()
    word = f'"workload":"{CLOSED.name}"'
    assert 2 == sum(word in line for line in text.splitlines())
    assert text == save(recorder.results, tmp_path / "plain").read_text()


def test_answers_stay_when_other_figures_follow(tmp_path):
    """They are read once; a launch that is measured further keeps them."""
    run = bare_run(servers=SERVERS, launches=(launched(),))
    recorder = Recorder(run, tmp_path)
    answers = ("0123456789ab",)
    recorder.add(LaunchFigures(MOE_CPU.key, 0, answers=answers))
    recorder.add(LaunchFigures(MOE_CPU.key, 0, values={"warm_up_s": 1.0}))

    (launch,) = load(tmp_path).launches
    assert answers == launch.answers
    assert 1.0 == launch.values["warm_up_s"]


def test_packages_are_kept_once_for_each_environment(tmp_path):
    """Two servers of one Python share them."""
    recorder = Recorder(bare_run(), tmp_path)
    for config in (MOE_CPU, DENSE_CPU):
        server = Server(
            config=config,
            python="/env/bin/python",
            versions={"vllm": "1"},
            packages={"vllm": "1", "triton": "3"},
        )
        recorder.put_server(server)
    recorder.put_server(server)
    results = load(tmp_path)

    assert {"/env/bin/python": server.packages} == results.environments
    assert [{}, {}] == [row.packages for row in results.servers.values()]


def test_a_launch_that_is_measured_further_is_not_whole_meanwhile(tmp_path):
    """It was whole after its first part; cut in the second it is not."""
    run = bare_run(servers=SERVERS, launches=(launched(),))
    recorder = Recorder(run, tmp_path)

    recorder.begin(MOE_CPU.key, 0)
    assert not load(tmp_path).launches[0].measured
    recorder.add(LaunchEnd(MOE_CPU.key, 0))
    assert load(tmp_path).launches[0].measured


def test_launches_are_numbered_by_server(tmp_path):
    """Those of another server are none of its own."""
    launches = (launched(0), launched(1), launched(0, DENSE_CPU))
    recorder = Recorder(bare_run(launches=launches), tmp_path)

    assert launches[:2] == recorder.launches_of(MOE_CPU.key)
    assert launches[2:] == recorder.launches_of(DENSE_CPU.key)
    assert (2, 1, 0) == (
        recorder.next_index(MOE_CPU.key),
        recorder.next_index(DENSE_CPU.key),
        recorder.next_index("vllm other"),
    )
