"""The recorder writes what was measured at once, and cheaply."""

import msgspec

from perfgate.results.recorder import LaunchFigures, Recorder
from perfgate.results.schema import Measurement, Server, load, save
from tests.support.builders import (
    DENSE_CPU,
    DIED,
    MOE_CPU,
    bare_run,
    launched,
    repetition,
)


def test_a_measurement_is_a_line_of_its_own(tmp_path):
    """Most of a large run does not change with a repetition: it is encoded once.

    The file is the same.
    """
    row = Measurement(
        server="s",
        launch=0,
        workload="w",
        repetitions=(repetition(0, {"itl_median_ms": 8.0}),),
    )
    other = msgspec.structs.replace(row, launch=1)
    recorder = Recorder(bare_run(measurements=(row, other)), tmp_path)
    again = msgspec.structs.replace(other, failure=DIED)
    recorder.put_measurement(again)

    assert (row, again) == load(tmp_path).measurements
    text = (tmp_path / "results.json").read_text()
    assert 2 == sum('"workload":"w"' in line for line in text.splitlines())
    assert text == save(recorder.results, tmp_path / "plain").read_text()


def test_answers_stay_when_other_figures_follow(tmp_path):
    """They are read once; a launch that is measured further keeps them."""
    recorder = Recorder(bare_run(launches=(launched(),)), tmp_path)
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
