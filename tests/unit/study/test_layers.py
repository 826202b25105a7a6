"""A study file on top of another: what it adds, replaces, and where paths count from."""

import json

import pytest

from perfgate.study import BadStudy, read_study
from tests.support.studies import SHIPPED
from tests.support.study_files import SMALL


def write(path, text):
    """A file in a folder that is made for it; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_shipped_study_is_a_start(tmp_path):
    """Its tables are there besides one's own; a table of the same name replaces it."""
    path = write(
        tmp_path / "study.toml",
        """
like = "shipped"
engines = ["vllm"]
[models.mine]
like = "llama-small"
[pairs.large]
model = "mine"
reference = "llama-3.1-8b"
[workloads.gpu.chat]
input_len_tokens = 64
output_len_tokens = 32
num_prompts = 16
""",
    )
    study = read_study(path)

    assert {*SHIPPED.models, "mine"} == set(study.models)
    assert SHIPPED.platforms == study.platforms
    assert {*SHIPPED.workloads["gpu"], "chat"} == set(study.workloads["gpu"])
    assert SHIPPED.workloads["cpu"] == study.workloads["cpu"]
    assert ("mine", ("vllm",), "study") == (
        study.pairs["large"].model,
        study.engines,
        study.name,
    )
    assert SHIPPED.claims == study.claims


def test_paths_count_from_the_file_that_has_them(tmp_path):
    """A file two levels up may name its models by relative paths."""
    config = SHIPPED.models["llama-small"].config
    write(tmp_path / "house/shapes/dense.json", json.dumps(config))
    write(
        tmp_path / "house/study.toml",
        SMALL + '[models.third]\nconfig = "shapes/dense.json"\n',
    )
    write(tmp_path / "team/study.toml", 'like = "../house/study.toml"\n')
    path = write(
        tmp_path / "mine/own/study.toml", 'like = "../../team/study.toml"'
    )

    assert config == read_study(path).models["third"].config


@pytest.mark.parametrize(
    ("like", "expected"),
    [
        ("1", ["like is 1", 'like = "shipped"']),
        ('"nowhere.toml"', ["nowhere.toml"]),
        ('"study.toml"', ["is based on this file"]),
        ('"other.toml"', ["is based on this file"]),
    ],
)
def test_mistakes_are_named(tmp_path, like, expected):
    """A file that is not there, and a circle."""
    write(tmp_path / "other.toml", 'like = "study.toml"\n')
    path = write(tmp_path / "study.toml", f"like = {like}\n")

    with pytest.raises(BadStudy) as caught:
        read_study(path)

    for text in expected:
        assert text in str(caught.value)


def test_claims_below_that_are_no_list_are_refused(tmp_path):
    """As where the file itself has them."""
    write(tmp_path / "house.toml", "claims = 5\n" + SMALL)
    path = write(tmp_path / "study.toml", 'like = "house.toml"\n')

    with pytest.raises(BadStudy, match=r"claims.*is not a list of tables"):
        read_study(path)


@pytest.mark.parametrize(
    "text",
    [
        'like = "~nobody-here/study.toml"\n',
        'like = "shipped"\n[models.m]\nfolder = "~nobody-here/m"\n',
        'like = "shipped"\n[models.m]\nconfig = "~nobody-here/m"\n',
    ],
)
def test_the_home_of_an_unknown_user_is_no_folder(tmp_path, text):
    """The message has the path as it was written."""
    path = write(tmp_path / "study.toml", text)

    with pytest.raises(BadStudy, match="~nobody-here"):
        read_study(path)
