"""Source: one kind of builds, with the ends that it needs."""

from __future__ import annotations

import sys

import pytest

from perfgate.bisect.source import Source
from perfgate.bisect.state import BadBisection


def names(tmp_path, **options):
    """Of the builds that these options list."""
    source = Source(engine="vllm", folder=tmp_path, **options)
    return [build.name for build in source.listed(print)]


def test_pythons(tmp_path):
    """As they are listed."""
    assert ["a", "/b"] == names(tmp_path, builds="a=/a,/b")


def test_list_of_what_a_command_makes(tmp_path):
    """Names are what the command gets."""
    made = names(tmp_path, builds="a=1,b", build="make {build} {folder}")

    assert ["a=1", "b"] == made


def test_versions(tmp_path):
    """From one to another of the list."""
    assert ["0.31", "0.32"] == names(
        tmp_path, versions="0.30,0.31,0.32", good="0.31"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "none of --builds"),
        ({"builds": "a,b", "packages": True}, "--builds and --packages of"),
        ({"versions": "1,2", "build": "x"}, "it makes commits"),
        ({"packages": True, "good": "/a"}, "one of them is missing"),
        ({"packages": True, "good": "/a", "bad": "/b"}, "not an executable"),
        ({"checkout": "x", "good": "a", "bad": "b"}, "no command makes"),
        ({"checkout": "x", "build": "x"}, "one of them is missing"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, text):
    """Each with what to do."""
    with pytest.raises(BadBisection) as caught:
        names(tmp_path, **options)

    assert text in caught.value.seen
    assert caught.value.remedy


def test_packages_need_two_environments(tmp_path):
    """The same one twice has nothing to exchange."""
    with pytest.raises(BadBisection) as caught:
        names(tmp_path, packages=True, good=sys.executable, bad=sys.executable)

    assert "the same packages" in caught.value.seen
