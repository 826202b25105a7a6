"""A pool records and reports what was cleaned up after a server."""

from __future__ import annotations

import uuid

from perfgate.servers.launch_record import Removed
from perfgate.servers.pool import ServerPool
from tests.support.hoarding_engine import shared_memory_of, socket_of
from tests.support.plans import fake_plan

REMOVED = (
    "removed after the server ended: 1 shared-memory segment (4 KiB), 1 socket"
)


def test_cleanup_is_recorded_and_reported(tmp_path):
    """Shared memory and a socket that the server left are in its record and in the progress."""
    tag = uuid.uuid4().hex
    lines = []
    plan = fake_plan(engine="hoarding_engine.py", env=(("SURVIVOR_TAG", tag),))
    with ServerPool(log_dir=tmp_path, progress=lines.append) as pool:
        pool.get(plan)

    (record,) = pool.launches
    expected = Removed(segments=1, segment_bytes=4096, sockets=1)
    assert expected == record.removed
    assert f"fake-engine: {REMOVED}" == lines[-1]
    assert not shared_memory_of(tag).exists()
    assert not socket_of(tag).exists()


def test_clean_server_is_not_mentioned(tmp_path):
    """A server that left nothing has an empty record, and no line."""
    lines = []
    with ServerPool(log_dir=tmp_path, progress=lines.append) as pool:
        pool.get(fake_plan())

    assert pool.launches[0].removed is None
    assert [] == [line for line in lines if "removed" in line]
