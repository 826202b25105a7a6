"""Distributions of an engine's environment, by a script that its Python runs."""

import importlib.util
import json
import types

import pytest

from perfgate.engines.environment import INSIDE


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(
        "perfgate_distributions", INSIDE / "perfgate_distributions.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def distribution(tmp_path, version, files):
    """A distribution with these metadata files and source files."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return types.SimpleNamespace(
        version=version,
        read_text=files.get,
        locate_file=lambda name: tmp_path / name,
    )


@pytest.mark.parametrize(
    ("version", "files", "commit"),
    [
        ("0.26.0", {}, ""),
        ("0.26.1rc1.dev7+g1234567", {}, "1234567"),
        ("0.26.1.dev7+cu129.g1234567", {}, "1234567"),
        (
            "0.26.0",
            {"direct_url.json": json.dumps({"vcs_info": {"commit_id": "abc"}})},
            "abc",
        ),
        (
            "0.26.0",
            {"vllm/_version.py": "__commit_id__ = commit_id = 'gabcdef1'\n"},
            "abcdef1",
        ),
        (
            "0.26.0",
            {"vllm/_version.py": "__commit_id__ = commit_id = None\n"},
            "",
        ),
    ],
)
def test_commit_of_an_engine(script, tmp_path, version, files, commit):
    """Where its version, its source or its file of versions says so."""
    built = distribution(tmp_path, version, files)

    assert commit == script.commit_of(built, "vllm/_version.py")


def test_every_distribution_has_its_version(script):
    """That of Python too."""
    found = script.distributions()

    assert {"python", "pytest", "msgspec"} <= found.keys()
