"""Baseline files of schema 1 are read as schema 2; errors name the fields of the file."""

import json
from pathlib import Path

import pytest

from perfgate.judge.baseline_schema import (
    BaselineError,
    PublishedFile,
    read_published,
    read_recorded,
    to_text,
)
from perfgate.judge.baseline_upgrade import with_new_prefixes
from tests.support import builders as m
from tests.support.baseline_files import figure, recorded_file

ROOT = Path(__file__).parents[3]
NEW_TO_OLD = {
    '"target_effect"': '"delta"',
    '"numerator"': '"of"',
    '"denominator"': '"over"',
    '"numerator.': '"of.',
    '"denominator.': '"over.',
    '"schema": 2': '"schema": 1',
}


def ratio_file():
    """A recorded ratio."""
    metric = m.recorded(m.RATIO, [3.5, 3.51]).metric
    return recorded_file(
        {"output_throughput": metric},
        identity={"numerator.model": "a", "denominator.model": "b"},
        context={"numerator.driver": "580.1", "denominator.driver": "580.1"},
    )


def as_schema_1(file):
    """The text that an older suite would have written."""
    text = to_text(file)
    for new, old in NEW_TO_OLD.items():
        text = text.replace(new, old)
    return text


def test_schema_1_is_read_as_schema_2(tmp_path):
    """Value for value, with the new names; written again it is of schema 2."""
    path = tmp_path / "x.json"
    path.write_text(as_schema_1(ratio_file()))

    read = read_recorded(path)

    assert ratio_file() == read
    assert '"schema": 2' in to_text(read)
    assert '"delta"' not in to_text(read)


def test_published_schema_1_is_read(tmp_path):
    """Its identity has the prefixes of a ratio, too."""
    ratio = figure(value=1.57, unit="", better="lower", tolerance=0.15)
    file = PublishedFile(
        identity={"numerator.model": "a"}, metrics={"itl_median_ms": ratio}
    )
    path = tmp_path / "x.json"
    path.write_text(as_schema_1(file))

    assert file == read_published(path)


def launch_of(tree):
    """The first launch in a file's JSON."""
    return tree["metrics"]["output_throughput"]["launches"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t["metrics"]["output_throughput"].update(delta=5),
            "metrics.output_throughput.delta: is 5",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(delta="wide"),
            "metrics.output_throughput.delta: ",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].pop("delta"),
            "metrics.output_throughput: Object missing required field `delta`",
        ),
        (
            lambda t: t["metrics"]["output_throughput"].update(
                target_effect=0.02
            ),
            "metrics.output_throughput: 'target_effect' is a field of schema 2",
        ),
        (
            lambda t: launch_of(t).update(over=-1.0),
            "metrics.output_throughput.launches[0].over: is -1.0",
        ),
        (
            lambda t: launch_of(t).update(invalid=["late"]),
            "metrics.output_throughput.launches[0].invalid: ",
        ),
        (
            lambda t: launch_of(t).update(value=None),
            "metrics.output_throughput.launches[0].value: is None",
        ),
        (lambda t: t.update(metrics=[]), "metrics: Expected `object`"),
        (lambda t: t.update(identity=3), "identity: Expected `object`"),
    ],
    ids=[
        "range",
        "type",
        "missing",
        "newer-field",
        "side",
        "invalid",
        "no-value",
        "metrics",
        "identity",
    ],
)
def test_errors_name_the_field_of_the_file(tmp_path, change, said):
    """Not the field that the upgrade made of it."""
    tree = json.loads(as_schema_1(ratio_file()))
    change(tree)
    path = tmp_path / "closed-c32.json"
    path.write_text(json.dumps(tree))

    with pytest.raises(BaselineError) as caught:
        read_recorded(path)

    assert said in caught.value.seen
    assert str(path) in caught.value.tried


def test_fields_that_only_begin_alike_keep_their_names():
    """`of` and `over` are prefixes with a dot."""
    fields = {"of.model": "a", "over.model": "b", "offset": "1", "$OVER": "2"}

    assert {
        "numerator.model": "a",
        "denominator.model": "b",
        "offset": "1",
        "$OVER": "2",
    } == with_new_prefixes(fields)


def test_every_baseline_of_the_repository_is_read():
    """Of whichever schema it is."""
    folder = ROOT / "baselines"
    for path in folder.rglob("*.json"):
        if path.is_relative_to(folder / "published"):
            read_published(path)
        else:
            read_recorded(path)
