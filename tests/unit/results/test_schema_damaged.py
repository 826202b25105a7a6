"""Run data: a damaged file is refused with file and field, or read with nothing dropped."""

import gzip
import json

import pytest

from perfgate import files
from perfgate.files import RunDataError
from perfgate.results.schema import load, save
from tests.support import file_fuzz
from tests.support.damaged_files import DAMAGE, LINKS, link

KINDS = len(DAMAGE) + len(LINKS) + 1


def test_damaged_runs(tmp_path, monkeypatch):
    """Every kind of damage once; `python -m benchmarks.fuzz_files` makes thousands."""
    monkeypatch.chdir(tmp_path)

    tally = file_fuzz.fuzz_results(tmp_path, KINDS, seed=3)

    assert [] == tally.broken
    assert KINDS == tally.refused.total() + tally.read.total()


@pytest.mark.parametrize("kind", LINKS)
def test_what_is_no_file_is_no_run(tmp_path, kind):
    """A pipe would block, and a device would never end."""
    link(tmp_path / "results.json", kind)

    with pytest.raises(RunDataError, match="reading the run at"):
        load(tmp_path)


def test_a_packed_file_that_unpacks_to_too_much_is_refused(
    tmp_path, monkeypatch
):
    """Its size is bounded while it is unpacked."""
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    file_fuzz.pack_bomb(tmp_path / "results.json.gz", 2**22)

    with pytest.raises(RunDataError, match="larger than 1 MiB"):
        load(tmp_path)


def test_a_whole_packed_file_is_read(tmp_path):
    """As the plain one."""
    run = file_fuzz.whole_run()
    path = save(run, tmp_path)
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()

    assert run == load(tmp_path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("launches", 0, "server", "x"), "$.launches[0].server: no server 'x'"),
        (("measurements", 1, "launch", 77), "$.measurements[1].launch"),
        (("measurements", 1, "workload", "x"), "no workload 'x'"),
        (("launches", 1, "index", 0), "$.launches[1].index: 0 is there twice"),
        (("verdicts", 2, "case", "x"), "$.verdicts[2].case: no case 'x'"),
    ],
    ids=["server", "launch", "workload", "index", "case"],
)
def test_parts_that_do_not_belong_together_are_refused(tmp_path, change, field):
    """By the field that refers to what is not there."""
    path = save(file_fuzz.whole_run(), tmp_path)
    tree = json.loads(path.read_text())
    table, number, name, value = change
    tree[table][number][name] = value
    path.write_text(json.dumps(tree))

    with pytest.raises(RunDataError) as refused:
        load(tmp_path)
    assert field in refused.value.seen


@pytest.mark.parametrize("field", ["logprobs", "others", "tokens"])
def test_half_an_answer_is_refused(tmp_path, field):
    """The judge compares it place by place."""
    path = save(file_fuzz.whole_run(), tmp_path)
    tree = json.loads(path.read_text())
    answer = {"tokens": ["a"], "logprobs": [-1.0], "others": [{}]}
    half = {**answer, field: []}
    tree["launches"][1]["answer_tokens"] = [answer, half]
    path.write_text(json.dumps(tree))

    with pytest.raises(RunDataError) as refused:
        load(tmp_path)
    assert "$.launches[1].answer_tokens[1]" in refused.value.seen


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    """A decoder would take the last one, and drop the first."""
    path = save(file_fuzz.whole_run(), tmp_path)
    text = path.read_text()
    path.write_text(
        text.replace('"complete":', '"complete": 1, "complete":', 1)
    )

    with pytest.raises(RunDataError, match="complete"):
        load(tmp_path)
