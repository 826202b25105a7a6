"""Runs of schema 1 load as schema 2."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from perfgate.files import RunDataError
from perfgate.results import schema
from perfgate.results.upgrade import upgrade_content, upgrade_results
from tests.support import builders as m

RUNS = Path(__file__).resolve().parents[3] / "docs" / "runs"
FILES = sorted(RUNS.rglob("results.json.gz"))
LAUNCH = {"server": "s", "planted": {"per_token_ms": 6.0}}


def test_old_field_names_are_renamed():
    """`planted` becomes `injected`; the old tree and all other keys stay as they are."""
    old = {"schema": 1, "launches": [LAUNCH], "workloads": {"w": {}}}

    upgraded = upgrade_results(old)

    assert 2 == upgraded["schema"]
    assert [{"server": "s", "injected": {"per_token_ms": 6.0}}] == upgraded[
        "launches"
    ]
    assert old["workloads"] is upgraded["workloads"]
    assert LAUNCH is old["launches"][0]
    assert 1 == old["schema"]


def test_measurements_are_copied_as_bytes():
    """Repetitions are megabytes: they are copied, not decoded."""
    repetitions = b'[{"gap_ms" : 1.10}]'
    old = b'{"schema": 1, "measurements": [{"repetitions": %s, "error": null}]}'

    upgraded = upgrade_content(old % repetitions)

    assert b'"measurements":[{"repetitions":%s}]' % repetitions in upgraded


@pytest.mark.parametrize("rows", [3, [3], {"a": 1}])
def test_malformed_measurements_are_reported_with_their_field(tmp_path, rows):
    """What is no list of objects is left for the reader, which names the field."""
    tree = msgspec.to_builtins(m.run({}, []))
    tree |= {"schema": 1, "measurements": rows}
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(tree))

    with pytest.raises(RunDataError, match=r"\$\.measurements"):
        schema.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "python", "origin"),
    [
        ("/env/python (--engine-python)", "/env/python", "--engine-python"),
        ("external (http://x:1)", "external", "http://x:1"),
        ("/env/python", "/env/python", None),
    ],
)
def test_python_is_split_from_what_named_it(text, python, origin):
    """Schema 1 held both in one text."""
    old = {"schema": 1, "servers": {"s": {"python": text}}}

    server = upgrade_results(old)["servers"]["s"]

    assert (python, origin) == (server["python"], server.get("python_origin"))


def test_current_schema_is_not_touched():
    """A file of schema 2, or without a schema, is read as it is."""
    for content in (
        b'{"schema": 2, "launches": [{"planted": {}}]}',
        b'{"launches": 3}',
    ):
        assert content is upgrade_content(content)


@pytest.mark.parametrize("launches", [3, [3], None, [{"planted": 3}]])
def test_what_cannot_be_upgraded_is_reported_with_its_field(tmp_path, launches):
    """A broken file of schema 1 is a RunDataError that names the field."""
    tree = msgspec.to_builtins(m.run({}, []))
    tree |= {"schema": 1, "launches": launches}
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(tree))

    with pytest.raises(RunDataError, match=r"\$\.launches"):
        schema.load(tmp_path)


def test_unknown_schema_is_refused(tmp_path):
    """A file of a later schema is refused; the message names the field."""
    tree = {**msgspec.to_builtins(m.run({}, [])), "schema": 3}
    (tmp_path / "results.json").write_bytes(msgspec.json.encode(tree))

    with pytest.raises(RunDataError, match=r"\$\.schema"):
        schema.load(tmp_path)


@pytest.mark.parametrize(
    "file", FILES, ids=lambda file: file.parent.relative_to(RUNS).as_posix()
)
def test_stored_runs_load(file):
    """Every run of schema 1 under docs/runs loads, and is saved as schema 2."""
    results = schema.load(file)

    assert 2 == results.schema
    changed = "planted" in file.as_posix() and "unchanged" not in file.parts
    if changed:
        assert any(launch.injected for launch in results.launches)


def test_gpu_clock_is_dropped():
    """A GPU's maximum clock is no field of schema 2; other fields stay."""
    hardware = {
        "kind": "h200",
        "gpus": [{"index": 0, "sm_clock_max_mhz": 1980}],
    }

    upgraded = upgrade_results({"schema": 1, "hardware": hardware})

    assert {"kind": "h200", "gpus": [{"index": 0}]} == upgraded["hardware"]
