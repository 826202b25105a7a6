"""Timing: the session's time adds up, with each step of a start."""

from perfgate.results.timing import PhaseRow, Session, format_sessions, phases
from perfgate.servers.launch_record import LaunchRecord, PhaseTime


def test_what_is_neither_start_nor_load_is_the_suites_own():
    """613 s less 301 s and 289 s are 23 s, 3.8 %."""
    session = Session(
        started_unix_s=1000.0,
        seen_unix_s=1613.0,
        start_s=301.0,
        load_s=289.0,
        end_s=9.0,
    )

    assert (
        "613 s: server starts 301 s, load 289 s, suite overhead 23 s (3.8 %), of which "
        "9 s for stopping servers"
    ) == format_sessions([session])


def test_time_between_two_commands_is_nobodys():
    """A resumed run counts the time of all its commands."""
    one = Session(
        started_unix_s=0.0, seen_unix_s=100.0, start_s=60.0, load_s=35.0
    )
    two = Session(
        started_unix_s=9000.0, seen_unix_s=9100.0, start_s=50.0, load_s=45.0
    )

    assert (
        "200 s in 2 commands: server starts 110 s, load 80 s, suite overhead 10 s (5.0 %)"
        == format_sessions([one, two])
    )
    assert format_sessions([one, two], now_unix_s=9200.0).startswith(
        "300 s in 2 commands"
    )


def test_workers_of_one_command_are_no_commands():
    """They measure at the same time; a resumed run has those of each command."""
    first, second = (
        Session(started_unix_s=at_s, seen_unix_s=100.0, load_s=90.0)
        for at_s in (0.0, 2.0)
    )
    later = Session(started_unix_s=500.0, seen_unix_s=600.0, load_s=90.0)

    said = format_sessions([second, first])
    resumed = format_sessions([first, second, later])

    assert said.startswith("198 s of 2 workers: server starts 0 s, load 180 s")
    assert resumed.startswith("298 s of 3 workers in 2 commands: ")


def test_a_clock_that_was_set_changes_no_count():
    """The second command began before the first one had ended, by a clock that jumped."""
    first, second = (
        Session(started_unix_s=at_s, seen_unix_s=at_s + 10.0, command=command)
        for at_s, command in ((0.0, "one"), (7.0, "two"))
    )
    worker = Session(started_unix_s=8.0, seen_unix_s=15.0, command="two")

    assert format_sessions([first, second]).startswith("20 s in 2 commands: ")
    assert format_sessions([first, second, worker]).startswith(
        "27 s of 3 workers in 2 commands: "
    )


def test_data_of_older_suites_say_nothing():
    """No line rather than a wrong one."""
    assert format_sessions([]) is None


def record(ready_s, *marks, key="vllm-mixtral-8x7b-tp1"):
    """One start with these (step, seconds since the launch)."""
    steps = tuple(
        PhaseTime(name=name, at_s=at_s, line="") for name, at_s in marks
    )
    return LaunchRecord(
        key=key,
        session_index=0,
        argv=(),
        env={},
        pid=1,
        log="",
        started_unix_s=0.0,
        ready_s=ready_s,
        phases=steps,
    )


def test_steps_of_the_first_and_of_later_launches():
    """Each lasts until the next; later launches by their median, since they find caches filled."""
    records = [
        record(100.0, ("loading weights", 10.0), ("compiling", 40.0)),
        record(60.0, ("loading weights", 12.0), ("compiling", 42.0)),
        record(50.0, ("loading weights", 10.0), ("compiling", 40.0)),
        record(None, ("loading weights", 10.0)),
    ]

    server = "vllm-mixtral-8x7b-tp1"
    assert [
        PhaseRow(server, "before the first logged step", 10.0, 11.0),
        PhaseRow(server, "loading weights", 30.0, 30.0),
        PhaseRow(server, "compiling", 60.0, 14.0),
        PhaseRow(server, "ready", 100.0, 55.0),
    ] == phases(records)


def test_each_server_has_its_own_steps():
    """Two engines call them by other names; one launch alone has no later ones."""
    rows = phases(
        [record(5.0, ("a", 1.0), key="x"), record(7.0, ("b", 2.0), key="y")]
    )

    assert [("x", "a", 4.0, None), ("y", "b", 5.0, None)] == [
        (row.server, row.phase, row.first_s, row.later_s)
        for row in rows
        if row.phase in "ab"
    ]


def test_launches_that_explain_are_no_overhead():
    """They are neither starts nor load of what is judged."""
    session = Session(
        started_unix_s=0.0,
        seen_unix_s=100.0,
        start_s=30.0,
        load_s=20.0,
        explain_s=40.0,
    )

    assert "explaining 40 s, suite overhead 10 s (10.0 %)" in format_sessions(
        [session]
    )
