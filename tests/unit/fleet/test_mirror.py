"""Mirror: a copy of a run that grows is at any moment a run that can be read."""

from __future__ import annotations

import pytest

from perfgate.files import RunDataError
from perfgate.fleet import mirror, orders
from perfgate.fleet.mirror import JOURNAL, Mirror
from perfgate.fleet.orders import Piece
from perfgate.results import schema
from perfgate.results.recorder import Recorder
from tests.support import builders


def copied(news, folder):
    """Apply pieces that have travelled as JSON; returns their paths."""
    paths = []
    for piece in news:
        again = orders.message_of(orders.encode(piece))
        mirror.apply(folder, again)
        paths.append(again.path)
    return paths


def test_a_copy_follows_step_by_step(tmp_path):
    """Only the journal's new end travels, until results.json is written whole."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    results = builders.bare_run(
        servers={
            builders.MOE_CPU.key: schema.Server(
                config=builders.MOE_CPU, python="x", versions={}
            )
        }
    )
    recorder = Recorder(results, source)
    follow = Mirror(source)
    assert ["results.json"] == copied(follow.news(), copy)
    sent = 0
    for index in range(4):
        recorder.add_launch(builders.launched(index))
        pieces = list(follow.news())
        assert [JOURNAL] == [piece.path for piece in pieces]
        assert sent == pieces[0].offset
        sent += len(pieces[0].content)
        copied(pieces, copy)
        assert recorder.results == schema.load(copy)
    assert [] == list(follow.news())

    recorder.finish(complete=True)
    assert ["results.json", JOURNAL] == copied(follow.news(), copy)
    assert recorder.results == schema.load(copy)
    assert not (copy / JOURNAL).exists()


def test_a_mirror_that_begins_anew_replaces_the_copy(tmp_path):
    """As where a session goes on with a run: nothing of the old copy is left."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    recorder = Recorder(builders.bare_run(), source)
    recorder.update(left_out=("a",))
    copied(Mirror(source).news(), copy)
    recorder.update(left_out=("a", "b"))

    copied(Mirror(source).news(), copy)

    assert ("a", "b") == schema.load(copy).left_out


def test_the_end_of_logs_is_copied(tmp_path):
    """Of each the last bytes."""
    (tmp_path / "logs").mkdir()
    long = b"x" * (mirror.MOST_LOG_BYTES + 5) + b"end"
    (tmp_path / "logs" / "1.log").write_bytes(long)
    (tmp_path / "pytest.log").write_bytes(b"short")

    rows = {piece.path: piece.content for piece in Mirror(tmp_path).logs()}

    assert b"short" == rows["pytest.log"]
    assert mirror.MOST_LOG_BYTES == len(rows["logs/1.log"])
    assert rows["logs/1.log"].endswith(b"end")


def test_no_piece_is_written_outside(tmp_path):
    """A host names paths in its run directory alone."""
    piece = Piece(path="../other", offset=0, content=b"x")

    with pytest.raises(RunDataError, match=r"\.\./other"):
        mirror.apply(tmp_path / "run", piece)
