"""Locations: a project's folders by its file, whatever the current folder."""

from pathlib import Path

import pytest

from perfgate import locations


@pytest.mark.parametrize(
    ("name", "text", "is_root"),
    [
        ("perfgate.toml", "", True),
        ("pyproject.toml", "[tool.perfgate]\n", True),
        ("pyproject.toml", "\ufeff[tool.perfgate]\r\n", True),
        ("pyproject.toml", '[project]\nname = "perfgate"\n', False),
        ("pyproject.toml", "[tool.perfgate", False),
    ],
)
def test_a_project_begins_at_its_file(tmp_path, name, text, is_root):
    """The nearest one upwards; a file that cannot be read or has no table is none."""
    (tmp_path / name).write_text(text)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert (tmp_path if is_root else below) == locations.find_root(below)


def test_variables_come_first(tmp_path, monkeypatch):
    """Of the folders that machines share, and of the history."""
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path / "engines"))
    monkeypatch.delenv("PERFGATE_MODELS_DIR", raising=False)
    monkeypatch.delenv("PERFGATE_HISTORY", raising=False)
    locations.use(locations.default_locations(tmp_path / "project"))
    found = locations.current()

    assert tmp_path / "engines" == found.engines
    assert tmp_path / "project" / ".models" == found.models
    assert found.runs / locations.HISTORY_FILE == found.history
    monkeypatch.setenv("PERFGATE_HISTORY", str(tmp_path / "all.sqlite"))
    assert tmp_path / "all.sqlite" == found.history


def test_a_user_without_a_home_has_the_root_folder(monkeypatch):
    """An arbitrary UID in a container: neither HOME nor a passwd entry."""

    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)

    assert Path("/") == locations.home()
    assert Path("~/x") == locations.expanded("~/x")
