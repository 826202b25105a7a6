"""Baseline schema: exact reading, errors that name the field, small diffs when written."""

import json

import msgspec
import pytest

from perfgate.judge.baseline_schema import (
    BaselineError,
    Known,
    read_published,
    read_recorded,
    to_text,
)
from perfgate.judge.baseline_store import Store
from perfgate.results.samples import Sample
from tests.support import builders as m
from tests.support.baseline_files import STEADY, published_file, recorded_file


def test_what_is_written_is_read(tmp_path):
    """A file with every field set survives the disk, value for value (six digits or fewer)."""
    known = Known(until="2026-12-31", reason="upstream", worse_by=0.1)
    ratio = m.recorded(
        m.RATIO, [3.5, 3.51], delta=0.05, known=known, reason="two launches"
    ).metric
    file = recorded_file({"output_throughput": ratio})
    (tmp_path / "x.json").write_text(to_text(file))
    assert file == read_recorded(tmp_path / "x.json")


def test_a_target_effect_is_stored_where_a_person_chose_it(tmp_path):
    """Without one the file has no such field; it is derived at each judgement."""
    metric = m.recorded(m.THROUGHPUT, STEADY, target_effect=None).metric
    text = to_text(recorded_file({"output_throughput": metric}))
    (tmp_path / "x.json").write_text(text)

    read = read_recorded(tmp_path / "x.json")

    assert "target_effect" not in text
    assert read.metrics["output_throughput"].target_effect is None


def test_values_are_rounded_to_six_digits(tmp_path):
    """1234.56789 is stored as 1234.57, 0.00123456789 as 0.00123457."""
    metric = m.recorded(m.THROUGHPUT, [1234.56789, 0.00123456789]).metric
    (tmp_path / "x.json").write_text(
        to_text(recorded_file({"output_throughput": metric}))
    )
    launches = (
        read_recorded(tmp_path / "x.json").metrics["output_throughput"].launches
    )
    assert [1234.57, 0.00123457] == [point.value for point in launches]


def test_layout_is_stable():
    """Keys are sorted, a launch takes one line, the file ends with a newline, and is JSON."""
    text = to_text(recorded_file())
    lines = text.splitlines()
    assert text.endswith("}\n")
    assert 6 == sum(
        '"launch": ' in line and '"value": ' in line for line in lines
    )
    assert sorted(json.loads(text)) == list(json.loads(text))


def test_one_more_launch_changes_two_lines():
    """A further launch adds its line and the comma before it, nothing else."""
    metric = m.recorded(m.THROUGHPUT, STEADY).metric
    more = msgspec.structs.replace(
        metric,
        launches=(
            *metric.launches,
            Sample(run="run-99", launch=0, value=1001.0),
        ),
    )
    before = to_text(recorded_file({"output_throughput": metric})).splitlines()
    after = to_text(recorded_file({"output_throughput": more})).splitlines()
    assert 2 == len(set(after) - set(before))


def broken(change):
    """The text of a file after a change to its JSON."""
    tree = json.loads(to_text(recorded_file()))
    change(tree)
    return json.dumps(tree)


def launches(tree):
    """The launches in a file's JSON."""
    return tree["metrics"]["output_throughput"]["launches"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda t: t.pop("identity"), "identity"),
        (lambda t: t.update(colour="red"), "colour"),
        (lambda t: t.update(schema=4), "schema: is 4, this suite reads 1 to 3"),
        (lambda t: t.update(chosen=["on"]), "chosen: "),
        (
            lambda t: t["metrics"]["output_throughput"].pop("floor"),
            "metrics.output_throughput",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(
                target_effect="wide"
            ),
            "metrics.output_throughput.target_effect",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(
                anchors={"gpu-a": 0.0}
            ),
            "metrics.output_throughput.anchors.gpu-a: is 0.0",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(target_effect=5),
            "metrics.output_throughput.target_effect: is 5",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(gate="soft"),
            "metrics.output_throughput.gate",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(launches=[]),
            "metrics.output_throughput.launches: is empty",
        ),
        (
            lambda t: launches(t)[3].update(value=-1.0),
            "metrics.output_throughput.launches[3].value: is -1.0",
        ),
        (lambda t: launches(t)[3].update(value=float("nan")), "is not JSON"),
        (lambda t: launches(t)[0].update(vlaue=1.0), "vlaue"),
        (
            lambda t: t["metrics"]["output_throughput"].update(
                known={"until": "soon", "reason": "r", "worse_by": 0.1}
            ),
            "metrics.output_throughput.known.until",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_name_file_and_field(tmp_path, change, field):
    """Whatever is wrong with a file, the error names the file, the field and a remedy."""
    path = tmp_path / "closed-c32.json"
    path.write_text(broken(change))
    with pytest.raises(BaselineError) as caught:
        read_recorded(path)
    assert str(path) in str(caught.value)
    assert field in caught.value.seen
    assert "version control" in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\xff", "{'a': 1}", '{"schema": 1']
)
def test_not_json(tmp_path, text):
    """A file that is cut, empty or something else is refused, never taken for an absent one."""
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BaselineError, match=r"x\.json"):
        read_recorded(path)


def test_unreadable_file(tmp_path):
    """A folder in the place of a file is an error with the path, not an absent baseline."""
    store = Store(tmp_path)
    store.path(m.THROUGHPUT, "h200x2").mkdir(parents=True)
    with pytest.raises(BaselineError, match="IsADirectory"):
        store.find(m.THROUGHPUT, "h200x2")


def test_published_tolerance_out_of_range(tmp_path):
    """A tolerance of 25 instead of 0.25 would never fail a run."""
    (tmp_path / "x.json").write_text(
        to_text(published_file()).replace("0.25", "25.0")
    )
    with pytest.raises(BaselineError, match=r"output_throughput\.tolerance"):
        read_published(tmp_path / "x.json")
