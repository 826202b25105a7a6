"""Head of a run: what the whole file says, without reading it."""

import gzip

import msgspec
import pytest

from perfgate.results import head, journal
from perfgate.results import schema as rundata
from perfgate.results.head import Machine, RunHead
from tests.support.builders import bare_run, hardware, saved
from tests.support.goldens import ROOT

STORED = sorted((ROOT / "docs" / "runs").rglob("results.json.gz"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_the_head_says_what_the_run_says(path):
    """For runs that were recorded by older versions of the suite, too."""
    run = rundata.load(path)

    assert RunHead(
        run_id=run.run_id,
        complete=run.complete,
        hardware=Machine(run.hardware.kind, run.hardware.name),
    ) == head.read(path)


def test_a_long_run_is_not_read_to_its_end(tmp_path):
    """What follows the head may be anything."""
    run = bare_run(hardware=hardware())
    path = rundata.save(run, tmp_path)
    text = path.read_bytes()
    start = text[: text.index(head.END)]
    path.write_bytes(start + head.END + b"\0" * 10**6)

    assert run.run_id == head.read(path).run_id


def test_where_the_head_does_not_tell_it_is_not_guessed(tmp_path):
    """No file, a cut one, one of another form, a packed one that is none, and a journal."""
    path = rundata.save(bare_run(), tmp_path)
    text = path.read_bytes()
    assert head.read(path) is not None
    assert head.read(tmp_path / "nothing.json") is None
    assert head.read(tmp_path) is None
    packed = tmp_path / "results.json.gz"
    for content in (b"no gzip", gzip.compress(text)[:40]):
        packed.write_bytes(content)
        assert head.read(packed) is None
    journal.beside(path).write_bytes(b"")
    assert head.read(path) is None
    journal.beside(path).unlink()
    for size in range(text.index(head.END)):
        path.write_bytes(text[:size])
        assert head.read(path) is None
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(text)))
    assert head.read(path) is None


def test_runs_that_are_not_wanted_are_not_loaded(tmp_path, monkeypatch):
    """Of a store with one run of this hardware one is read; what has no head is read too."""
    runs = [saved(tmp_path, number, 1000.0) for number in (1, 2, 3)]
    text = (tmp_path / runs[2].run_id / rundata.RESULTS_FILE).read_text()
    (tmp_path / "odd").mkdir()
    odd = tmp_path / "odd" / rundata.RESULTS_FILE
    odd.write_text(text.replace("\n ", " "))
    loaded = []
    load = rundata.load

    def counting(path):
        loaded.append(path.name)
        return load(path)

    monkeypatch.setattr(rundata, "load", counting)
    wanted = runs[1].run_id

    found = rundata.stored(
        tmp_path, is_wanted=lambda run_head: run_head.run_id == wanted
    )

    assert [wanted, runs[2].run_id] == [run.run_id for run in found]
    assert [wanted, "odd"] == loaded
