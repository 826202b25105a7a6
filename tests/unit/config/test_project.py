"""Project file: where a project begins, what it configures, and which mistakes are refused."""

from __future__ import annotations

import pytest

from perfgate import locations
from perfgate.config.project import BadProject, open_project, read_project
from perfgate.study import BadStudy
from perfgate.study.shipped import shipped


def test_without_a_file_everything_is_as_by_default(tmp_path):
    """The shipped study and tests, and all folders in the root directory."""
    project = read_project(tmp_path)

    assert (None, shipped().study, (shipped().tests,)) == (
        project.file,
        project.study.path,
        project.tests,
    )
    folders = [
        getattr(project.locations, name)
        for name in ("engines", "models", "runs", "baselines")
    ]
    assert [
        tmp_path / name for name in (".engines", ".models", "runs", "baselines")
    ] == folders
    assert shipped().baselines == project.shipped_baselines


@pytest.mark.parametrize("name", ["perfgate.toml", "pyproject.toml"])
def test_paths_count_from_the_file(tmp_path, monkeypatch, name):
    """From a folder below, and by either file; environment variables come first."""
    text = 'runs = "perf/runs"\nbaselines = "perf/recorded"\ntests = ["perf"]\ngate = "required"\n'
    if name == "pyproject.toml":
        text = "[tool.perfgate]\n" + text
    (tmp_path / name).write_text(text)
    below = tmp_path / "perf" / "deep"
    below.mkdir(parents=True)
    monkeypatch.setenv("PERFGATE_ENGINES_DIR", str(tmp_path / "elsewhere"))

    project = open_project(below)

    assert (tmp_path, "required") == (project.root, project.gate)
    assert (tmp_path / "perf" / "runs", tmp_path / "perf" / "recorded") == (
        project.locations.runs,
        project.locations.baselines,
    )
    assert (tmp_path / "perf",) == project.tests
    assert tmp_path / "elsewhere" == locations.current().engines


def test_a_pyproject_of_somebody_else_is_no_project(tmp_path):
    """One that mentions perfgate as a dependency alone, or is not TOML, configures nothing."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["perfgate"]\n'
    )
    assert read_project(tmp_path).file is None

    (tmp_path / "pyproject.toml").write_text("perfgate = [\n")
    assert read_project(tmp_path).file is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'baseline = "b"',
            ["unknown key 'baseline'", "did you mean baselines?"],
        ),
        ('gate = "strikt"', ["gate", "strikt", "advisory, required, strict"]),
        ("runs = 3", ["runs", "str"]),
        ('tests = ["nowhere"]', ["no such file", "nowhere", "perfgate.study"]),
        ("runs = ", ["it is not TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, expected):
    """Each says file and key, and what there is instead."""
    (tmp_path / "perfgate.toml").write_text(text + "\n")

    with pytest.raises((BadProject, BadStudy)) as caught:
        read_project(tmp_path)

    message = str(caught.value)
    assert [] == [
        part for part in ["perfgate.toml", *expected] if part not in message
    ], message


def test_a_study_that_is_not_there_is_named(tmp_path):
    """The project's, and the one that replaces it."""
    (tmp_path / "perfgate.toml").write_text('study = "gone.toml"\n')

    with pytest.raises(BadStudy, match=r"gone\.toml"):
        read_project(tmp_path)
    with pytest.raises(BadStudy, match=r"other\.toml"):
        read_project(tmp_path, str(tmp_path / "other.toml"))


def test_an_engines_python_counts_from_the_file(tmp_path, monkeypatch):
    """A relative path does, a bare name does not; an environment variable comes first."""
    monkeypatch.delenv("PERFGATE_VLLM_PYTHON", raising=False)
    monkeypatch.setenv("PERFGATE_SGLANG_PYTHON", "/other/python")
    monkeypatch.setenv("PERFGATE_MODEL_B", "/other/b")
    text = '[engine_python]\nvllm = "env/bin/python"\nsglang = "x/python"\nfork = "python3"\n'
    text += '[model_dir]\na = "weights/a"\nb = "weights/b"\n'
    (tmp_path / "perfgate.toml").write_text(text)

    project = read_project(tmp_path)

    expected = {
        "vllm": str(tmp_path / "env" / "bin" / "python"),
        "fork": "python3",
    }
    assert expected == project.engine_python
    assert {"a": str(tmp_path / "weights" / "a")} == project.model_dir


def test_the_last_good_build_counts_from_the_file(tmp_path):
    """A path counts from the folder of the file; pairs have two values."""
    file = tmp_path / "perfgate.toml"
    file.write_text(
        'pairs = "suspect"\n[against_engine]\nvllm = "good/python"\nsglang = "py"'
    )

    project = read_project(tmp_path)

    assert "suspect" == project.pairs
    assert {
        "vllm": str(tmp_path / "good/python"),
        "sglang": "py",
    } == project.against_engine
    file.write_text('pairs = "some"')
    with pytest.raises(BadProject, match='write pairs = "all"'):
        read_project(tmp_path)
