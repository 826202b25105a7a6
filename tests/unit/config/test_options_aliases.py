"""The old names of --inject-* still work, and no help shows them."""

from __future__ import annotations

import argparse

import pytest

from perfgate.config.options import add_options

pytest_plugins = ["pytester"]
OLD = {"delay": "m=6", "arg": "m=--enforce-eager", "env": "m=A=1"}


@pytest.fixture
def parser():
    """A parser that has the plugin's options."""
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument)
    return parser


@pytest.mark.parametrize("name", OLD)
def test_old_option_is_an_alias(parser, name):
    """--plant-X sets what --inject-X sets, also together with it."""
    value = OLD[name]

    option = parser.parse_args(
        [f"--plant-{name}", value, f"--inject-{name}", value]
    )

    assert [value, value] == getattr(option, f"inject_{name}")
    assert [] == getattr(parser.parse_args([]), f"inject_{name}")


def test_help_does_not_show_old_options(parser):
    """Only the new names are in the help."""
    shown = parser.format_help()

    assert "--inject-delay" in shown
    assert "--plant" not in shown


def test_pytest_knows_the_old_options(pytester):
    """An old name is accepted, and pytest --help shows the new one alone."""
    (pytester.path / "perfgate.toml").touch()

    shown = pytester.runpytest_subprocess("--help")
    refused = pytester.runpytest_subprocess(
        "-m", "cpu", "--plant-delay", "mixtral-small"
    )

    shown.stdout.fnmatch_lines(["*--inject-delay*"])
    shown.stdout.no_fnmatch_line("*--plant*")
    refused.stderr.fnmatch_lines(["*write --inject-delay MODEL=VALUE*"])
