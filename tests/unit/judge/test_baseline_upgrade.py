"""Baseline files of schemas 1 and 2 are read as schema 3; errors name the fields of the file."""

import json
from pathlib import Path

import msgspec
import pytest

from perfgate.cases import Load
from perfgate.judge.baseline_schema import (
    BaselineError,
    PublishedFile,
    read_published,
    read_recorded,
    to_text,
)
from perfgate.judge.baseline_upgrade import upgraded, with_new_prefixes
from perfgate.judge.identity import identity
from tests.support import builders as m
from tests.support.baseline_files import figure, recorded_file

ROOT = Path(__file__).parents[3]
NEW_TO_OLD = {
    '"target_effect"': '"delta"',
    '"numerator"': '"of"',
    '"denominator"': '"over"',
    '"numerator.': '"of.',
    '"denominator.': '"over.',
    '"schema": 3': '"schema": 1',
}


def ratio_file():
    """A recorded ratio, with a target effect that its owner gave a reason for."""
    metric = m.recorded(m.RATIO, [3.5, 3.51], reason="two launches").metric
    return recorded_file(
        {"output_throughput": metric},
        identity={"numerator.model": "a", "denominator.model": "b"},
        context={"numerator.driver": "580.1", "denominator.driver": "580.1"},
        chosen={
            "numerator.moe_backend": "TRITON",
            "denominator.graphs": "on",
            "denominator.made_up": "1",
        },
    )


def as_schema_2(file):
    """The JSON that an older suite would have written: choices in the identity."""
    tree = json.loads(to_text(file))
    chosen = tree.pop("chosen", {})
    return tree | {"schema": 2, "identity": tree["identity"] | chosen}


def as_schema_1(file):
    """The text that an even older suite would have written."""
    text = json.dumps(as_schema_2(file) | {"schema": 3})
    for new, old in NEW_TO_OLD.items():
        text = text.replace(new, old)
    return text


def written(tree):
    """The text of a schema-2 file."""
    return json.dumps(tree)


@pytest.mark.parametrize(
    "text",
    [as_schema_1(ratio_file()), written(as_schema_2(ratio_file()))],
    ids=["1", "2"],
)
def test_older_schemas_are_read(tmp_path, text):
    """Value for value, with the new names; written again it is of schema 3.

    What the engine chose is no identity, of whichever name it is.
    """
    path = tmp_path / "x.json"
    path.write_text(text)

    read = read_recorded(path)

    assert ratio_file() == read
    assert '"schema": 3' in to_text(read)
    assert '"delta"' not in to_text(read)


def test_every_field_that_a_person_fixes_stays_identity():
    """Of servers, workloads and hardware, and nothing else."""
    config = msgspec.structs.replace(
        m.MOE_CPU, variant="base", routing="returned"
    )
    load = Load(server=config, workload=m.CLOSED)
    tree = {
        "identity": identity(m.bare_run(), load) | {"graphs": "off"},
        "metrics": {},
    }

    new = upgraded(tree, 2)

    assert identity(m.bare_run(), load) == new["identity"]
    assert {"graphs": "off"} == new["chosen"]


def test_a_target_effect_without_a_reason_is_dropped(tmp_path):
    """It followed from the noise; with a reason it is its owner's."""
    path = tmp_path / "x.json"
    tree = as_schema_2(ratio_file())
    path.write_text(written(tree))
    owned = read_recorded(path).metrics["output_throughput"].target_effect
    del tree["metrics"]["output_throughput"]["reason"]
    path.write_text(written(tree))
    derived = read_recorded(path).metrics["output_throughput"].target_effect

    assert 0.02 == owned
    assert derived is None


def test_choices_stand_in_no_older_file(tmp_path):
    """The field is of schema 3."""
    path = tmp_path / "x.json"
    path.write_text(written(as_schema_2(ratio_file()) | {"chosen": {}}))

    with pytest.raises(BaselineError) as caught:
        read_recorded(path)

    assert "'chosen' is a field of schema 3" in caught.value.seen


def test_published_schema_1_is_read(tmp_path):
    """Its identity has the prefixes of a ratio, too."""
    ratio = figure(value=1.57, unit="", better="lower", tolerance=0.15)
    file = PublishedFile(
        identity={"numerator.model": "a"}, metrics={"itl_median_ms": ratio}
    )
    path = tmp_path / "x.json"
    path.write_text(as_schema_1(file))

    assert file == read_published(path)
    path.write_text(written(as_schema_2(file)))
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
    """Of whichever schema it is; the noise table beside them is no baseline."""
    folder = ROOT / "baselines"
    paths = list(folder.glob("**/*/*/*.json"))
    assert paths
    for path in paths:
        if path.is_relative_to(folder / "published"):
            read_published(path)
        else:
            read_recorded(path)
