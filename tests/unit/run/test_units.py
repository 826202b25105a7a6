"""Units: which cases must share a machine, and what is missing for them."""

from __future__ import annotations

import json

import pytest

from perfgate.run import units
from tests.support import builders

CASES = [builders.THROUGHPUT, builders.RATIO, builders.CPU_RATIO]


def test_compared_servers_are_of_one_unit():
    """Also those that a later case joins; a unit bears the name of one of its servers."""
    alone = [("gpu", builders.THROUGHPUT), ("gpu", _of(builders.DENSE_LOAD))]

    assert {
        ("gpu", builders.MOE.key): f"gpu:{builders.MOE.key}",
        ("gpu", builders.DENSE.key): f"gpu:{builders.DENSE.key}",
    } == units.names_of(alone)
    joined = units.names_of([*alone, ("gpu", builders.RATIO)])
    assert 1 == len(set(joined.values()))
    assert set(joined.values()) <= {":".join(server) for server in joined}


def test_each_platform_has_units_of_its_own():
    """The same server on two kinds of GPU is two units."""
    both = [("h200", builders.THROUGHPUT), ("h100", builders.THROUGHPUT)]

    assert 2 == len(set(units.names_of(both).values()))


def _of(load):
    return builders.Case(
        experiment="E1", metric="output_throughput", numerator=load
    )


def test_a_unit_knows_its_gpus_and_what_is_missing():
    """The GPUs of its largest server; each reason once."""
    rows = [("gpu", case) for case in CASES[:2]] + [("cpu", CASES[2])]

    first, second = units.units_of(
        rows,
        {"gpu": "h200", "cpu": None},
        lambda platform, case: f"needs {platform}" * (platform == "gpu"),
        lambda server: None,
    )

    assert (builders.MOE.key, builders.DENSE.key) == first.servers
    assert (2, "h200", 2) == (first.gpu_count, first.gpu, first.cases)
    assert ("needs gpu",) == first.lacks
    assert f"gpu:{builders.MOE.key} and 1 more" == first.title
    assert (0, None, ()) == (second.gpu_count, second.gpu, second.lacks)


def test_the_list_is_written_and_read(tmp_path):
    """As JSON; a list of another version is refused by its field."""
    rows = units.units_of(
        [("gpu", builders.THROUGHPUT)],
        {"gpu": None},
        lambda platform, case: None,
        lambda server: "no weights",
    )
    units.write(tmp_path / "units.json", builders.hardware(), rows)

    content = (tmp_path / "units.json").read_bytes()
    listed = units.read(content)
    assert ("h200", rows) == (listed.kind, listed.units)
    assert ("no weights",) == listed.find(f"gpu:{builders.MOE.key}").lacks
    assert listed.find("none") is None
    other = json.loads(content) | {"newer": 1}
    with pytest.raises(units.msgspec.ValidationError, match="newer"):
        units.read(json.dumps(other).encode())
