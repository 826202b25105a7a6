"""Portable baselines of this repository: no stored launch is red, 2 % of weights are."""

import pytest
from click.testing import CliRunner

from benchmarks import cpu_facts


@pytest.fixture(scope="module")
def table():
    """Metric -> launches, red as they are, red when 2 % and when 5 % worse."""
    done = CliRunner().invoke(cpu_facts.cli, ["stored"])
    assert done.exit_code == 0, done.output
    rows = {}
    for line in done.output.splitlines()[2:]:
        name, *cells = line.strip("| ").split(" | ")
        rows[name] = [int(cell) for cell in cells]
    return rows


def test_no_stored_launch_is_red(table):
    """Launches of two kinds of processor, each judged by all the others."""
    assert len(table) >= 5
    for name, (launches, red, _, _) in table.items():
        assert launches >= 2, name
        assert red == 0, name


@pytest.mark.parametrize("name", ["weights_over_arithmetic", "kv_cache_tokens"])
def test_two_percent_of_what_is_exact_is_red(table, name):
    """Of every launch."""
    launches, _, two_percent, _ = table[name]
    assert launches == two_percent


def test_five_percent_of_the_peak_is_red(table):
    """Of every launch, although launches of it vary."""
    launches, _, _, five_percent = table["memory_peak_bytes"]
    assert launches == five_percent


def test_each_change_names_its_model():
    """A command plants the change in the model that its tests ask for, or in none."""
    for change in (*cpu_facts.CHANGES, *cpu_facts.other_build("build")):
        words = change.command("vllm", "run", "store")
        assert not any("MODEL=" in word for word in words)
        for model in change.models:
            assert any(word.startswith(f"{model}=") for word in words)
