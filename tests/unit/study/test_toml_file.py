"""TOML of a study file: what cannot be read, and keys that are inherited."""

import pytest

from perfgate.study.toml_file import BadStudy, StudyToml, load_toml


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A path that does not exist, a folder, and bytes that are no text."""
    for name, make in (
        ("nowhere.toml", lambda path: None),
        ("folder.toml", lambda path: path.mkdir()),
        ("bytes.toml", lambda path: path.write_bytes(b"\xff\xfe")),
    ):
        make(tmp_path / name)
        with pytest.raises(BadStudy, match=name):
            load_toml(tmp_path / name, "the study")


def test_a_file_of_an_editor_of_windows_is_read(tmp_path):
    """It begins with a byte order mark, and its lines end with two characters."""
    path = tmp_path / "study.toml"
    path.write_bytes(b'\xef\xbb\xbflike = "shipped"\r\n[judged]\r\n')

    assert {"like": "shipped", "judged": {}} == load_toml(path, "the study")


def test_a_key_may_replace_others_of_its_ancestors(tmp_path):
    """The nearest table that gives a key decides what is inherited besides."""
    data = {
        "models": {
            "first": {"folder": "a", "config": "b", "served": False},
            "second": {"like": "first", "folder": "c"},
            "third": {"like": "second", "config": "d"},
        }
    }
    file = StudyToml(tmp_path / "study.toml", data)
    inherited = {}
    for name in data["models"]:
        inherited[name] = file.inherited(
            "models", name, {"folder": ("config",)}
        )

    assert {
        "first": {"folder": "a", "config": "b", "served": False},
        "second": {"folder": "c", "served": False},
        "third": {"folder": "c", "config": "d", "served": False},
    } == inherited
