"""The record of a launch is stored; its failures are told apart by type."""

import msgspec
import pytest

from perfgate.errors import Failure
from perfgate.servers import launch_record
from perfgate.servers.launch_record import LaunchRecord, PhaseTime, Removed

RECORD = LaunchRecord(
    key="vllm-moe-tp2",
    session_index=1,
    argv=("python", "-m", "vllm"),
    env={"CUDA_VISIBLE_DEVICES": "0"},
    pid=12,
    log="logs/vllm-moe-tp2-1.log",
    started_unix_s=1.8e9,
    ready_s=41.5,
    phases=(PhaseTime(name="loading weights", at_s=11.0, line="Loading"),),
    stop="stopped: exit status 0",
    removed=Removed(sockets=1),
)


def test_json_holds_every_field():
    """What is written is what is read."""
    encoded = msgspec.json.encode(RECORD)

    assert RECORD == msgspec.json.decode(encoded, type=LaunchRecord)


def test_a_launch_that_was_never_ready_is_a_record_too():
    """It has no time, no phases and no end yet."""
    tree = msgspec.to_builtins(RECORD)
    for name in ("ready_s", "phases", "stop", "removed"):
        del tree[name]

    record = msgspec.convert(tree, LaunchRecord)

    assert (None, (), None, None) == (
        record.ready_s,
        record.phases,
        record.stop,
        record.removed,
    )


KINDS = (
    launch_record.ServerExited,
    launch_record.ServerNotReady,
    launch_record.ServerDied,
    launch_record.PortInUse,
    launch_record.RunDirectoryFull,
)


@pytest.mark.parametrize("kind", KINDS)
def test_no_failure_is_a_kind_of_another(kind):
    """A server that died is launched again; one that does not start is not."""
    others = tuple(other for other in KINDS if other is not kind)

    assert issubclass(kind, Failure)
    assert not issubclass(kind, others)
