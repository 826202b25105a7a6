"""Limits of a container, from the files of both versions of control groups."""

import pytest

from perfgate.machine.container import OomWatch, limits, oom_kills, usable_cores

V2, V1 = "0::{}\n", "4:memory:{0}\n2:cpu,cpuacct:{0}\n8:pids:{0}\n"
GROUP = "/kubepods/pod1/c1"


@pytest.fixture
def root(tmp_path):
    """A file system to which a group's files are written."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "dev" / "shm").mkdir(parents=True)
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    return tmp_path


def write(root, files, lines=V2, group=""):
    """The process is in that group, whose files are below sys/fs/cgroup."""
    (root / "proc" / "self" / "cgroup").write_text(lines.format(group or "/"))
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def test_nothing_is_limited_outside_a_container(root):
    """Neither without any file, nor where each says so."""
    assert (None, None, None) == told(root)

    write(
        root, {"cpu.max": "max 100000", "memory.max": "max", "pids.max": "max"}
    )
    assert (None, None, None) == told(root)


def told(root):
    """Quota, memory and processes."""
    found = limits(root)
    return found.cpu_quota_cores, found.memory_bytes, found.pids


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1.0), ("150000 100000", 1.5), ("50000 100000", 0.5)],
)
def test_limits_of_version_2(root, quota, cores):
    """In a container with a namespace of its own the files are at the root."""
    files = {"cpu.max": quota, "memory.max": "2000000000", "pids.max": "100"}
    write(root, files)

    assert (cores, 2_000_000_000, 100) == told(root)


def test_the_smallest_limit_of_nested_groups_counts(root):
    """A pod may be limited below its container."""
    write(
        root,
        {
            "kubepods/pod1/cpu.max": "200000 100000",
            "kubepods/pod1/c1/cpu.max": "400000 100000",
            "kubepods/pod1/memory.max": "max",
            "kubepods/pod1/c1/memory.max": "1000",
            "kubepods/memory.max": "3000",
        },
        group=GROUP,
    )

    assert (2.0, 1000, None) == told(root)


def test_the_path_of_the_host_may_not_exist_in_the_container(root):
    """Without a namespace the path is the host's; the files are at the mount."""
    write(root, {"cpu.max": "100000 100000"}, group=GROUP)

    assert (1.0, None, None) == told(root)


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_limits_of_version_1(root, folder):
    """One folder for each controller; no limit is a very large number."""
    files = {
        f"{folder}/docker/c/cpu.cfs_quota_us": "150000",
        f"{folder}/docker/c/cpu.cfs_period_us": "100000",
        "memory/docker/c/memory.limit_in_bytes": "2684354560",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "pids/docker/c/pids.max": "max",
    }
    write(root, files, V1, "/docker/c")

    assert (1.5, 2_684_354_560, None) == told(root)


def test_no_quota_of_version_1(root):
    """It is written as -1."""
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    write(root, files, V1, "/")

    assert (None, None, None) == told(root)


def test_usable_cores_follow_the_quota(root):
    """The smaller of affinity and quota."""
    write(root, {"cpu.max": "50000 100000"})
    assert 0.5 == usable_cores(root)

    write(root, {"cpu.max": "max 100000"})
    assert usable_cores(root) == int(usable_cores(root)) >= 1


def test_shm_is_measured(root):
    """It has a size where it is a file system; without it there is none."""
    assert 0 < limits(root).shm_bytes

    (root / "dev" / "shm").rmdir()
    assert limits(root).shm_bytes is None


@pytest.mark.parametrize(
    ("lines", "name"),
    [(V2, "memory.events"), (V1, "memory/memory.oom_control")],
)
def test_kills_for_memory_are_told_with_the_limit(root, lines, name):
    """Those since the watch began."""
    write(root, {name: "oom 3\noom_kill 2"}, lines, "/")
    write(root, {"memory.max": "2000000000"}, lines, "/")
    watch = OomWatch(root)
    assert "" == watch.killed_here()

    write(root, {name: "oom 4\noom_kill 3"}, lines, "/")

    assert (
        "killed 1 process of this container for memory" in watch.killed_here()
    )
    assert 3 == oom_kills(root)


def test_the_limit_is_named(root):
    """A user can raise it."""
    write(root, {"memory.events": "oom_kill 0", "memory.max": "2684354560"})
    watch = OomWatch(root)
    write(root, {"memory.events": "oom_kill 2", "memory.max": "2684354560"})

    assert (
        "the kernel killed 2 processes of this container for memory (limit 2.7 GB)"
        == watch.killed_here()
    )


def test_kills_of_other_groups_are_not_ours(root):
    """The groups above count the kills of all users of the machine."""
    own = "user.slice/user-1000.slice/session-3.scope"
    above = "user.slice/memory.events"
    write(root, {f"{own}/memory.events": "oom_kill 0", above: "oom_kill 4"})
    (root / "proc" / "self" / "cgroup").write_text(f"0::/{own}\n")
    watch = OomWatch(root)
    (root / "sys" / "fs" / "cgroup" / above).write_text("oom_kill 5\n")

    assert "" == watch.killed_here()


def test_kills_of_the_host_are_told_as_such(root):
    """Without a limit of its own the host's memory is what ran out."""
    (root / "proc" / "vmstat").write_text("nr_free 1\noom_kill 7\n")
    watch = OomWatch(root)
    (root / "proc" / "vmstat").write_text("nr_free 1\noom_kill 8\n")

    assert "of this host killed 1 process" in watch.killed_on_host()
    assert "" == watch.killed_here()


def test_a_kernel_that_counts_nothing_says_nothing(root):
    """Absence of a counter is not a kill."""
    watch = OomWatch(root)

    assert ("", "") == (watch.killed_here(), watch.killed_on_host())
