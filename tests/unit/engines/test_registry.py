"""Engine registry: an engine is found by its name."""

import pytest

from perfgate.engines.registry import ENGINES, UnknownEngine, lookup


@pytest.mark.parametrize("name", ENGINES)
def test_engine_is_found_by_name(name):
    """Each engine answers to the name that it is registered under."""
    assert name == lookup(name).name


def test_unknown_engine_lists_the_known():
    """A misspelt engine is answered with those that exist and with where to read how to add one."""
    with pytest.raises(
        UnknownEngine, match=r"'vlm'.*\n.*\n.*did you mean vllm"
    ) as error:
        lookup("vlm")
    assert "docs/how-to.md" in error.value.remedy
