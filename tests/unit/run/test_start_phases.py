"""Start phases: seconds of the parts of a start, by the lines of both engines' logs."""

import msgspec

from perfgate.run import start_phases
from perfgate.servers.launch_record import LaunchRecord, PhaseTime


def record(ready_s=60.0, **phases):
    """A launch with phases at these seconds."""
    return LaunchRecord(
        key="server",
        session_index=0,
        argv=(),
        env={},
        pid=1,
        log="server.log",
        started_unix_s=0.0,
        ready_s=ready_s,
        phases=tuple(
            PhaseTime(name=name.replace("_", " "), at_s=at_s, line="")
            for name, at_s in phases.items()
        ),
    )


def test_each_part_lasts_from_its_line_to_the_next():
    """As vLLM logs them on a GPU."""
    launch = record(
        loading_weights=20.0,
        weights_loaded=23.0,
        KV_cache_sized=50.0,
        capturing_graphs=51.0,
        graphs_captured=58.0,
    )

    expected = {
        "ready_s": 60.0,
        "start_imports_s": 20.0,
        "start_weights_s": 3.0,
        "start_compile_s": 27.0,
        "start_graphs_s": 7.0,
    }
    assert expected == start_phases.values(launch)


def test_parts_that_are_not_logged_are_left_out():
    """A server without graphs, and one that never was ready."""
    launch = record(ready_s=None, weights_loaded=23.0)

    assert {"start_imports_s": 23.0} == start_phases.values(launch)


def test_a_line_that_comes_twice_counts_the_first_time():
    """Each rank logs it."""
    twice = PhaseTime(name="weights loaded", at_s=30.0, line="")
    launch = record(loading_weights=20.0, weights_loaded=23.0)
    launch = msgspec.structs.replace(launch, phases=(*launch.phases, twice))

    assert 3.0 == start_phases.values(launch)["start_weights_s"]
