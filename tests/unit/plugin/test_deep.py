"""Deep loads in whole sessions: each with a loss that it alone sees; none without its option."""

from __future__ import annotations

import pytest

from perfgate.results.schema import load
from tests.support.projects import outcomes, record, verdicts

pytest_plugins = ["pytester"]
ALL = ("--deep", "saturation", "--deep", "prefix", "--deep", "speculative")
# The fake engine is none of those that draft tokens, so the study names it.
STUDY = """
like = "shipped"
[platforms.cpu]
about = "this machine"
server = "cpu"
pair = "small"
workloads = "cpu"
judged = "coarse"
[platforms.cpu.roles]
closed = "closed-c16"
single_stream = "single-stream"
routing = "routing"
batches = ["single-stream"]
sweep = ["single-stream"]
[platforms.cpu.deep.saturation]
workloads = ["saturation"]
judged = ["saturated_throughput"]
[platforms.cpu.deep.prefix]
workloads = ["shared-prefix", "conversation"]
judged = ["prefix_hit_rate"]
prefix_caching = true
[platforms.cpu.deep.speculative]
workloads = ["speculative"]
judged = ["acceptance_length"]
variant = "ngram"
extra_args = { fake = ["--drafts"] }
"""
MODEL = ("-m", "cpu", "--model", "llama-small", "-k", "test_deep_load")
# By server: half of the prompts of both loads come out of the cache, and a third of the
# tokens were drafted.
SOUND = {
    "llama-small": "--set accepted_per_request=20 --set saturates_at=16",
    "llama-small-prefix": "--set prefix_hits_per_request=200",
}
KEY = "fake-llama-small-tp2"


@pytest.fixture
def deep(project, pytester, monkeypatch):
    """A project whose baselines are those of a sound server; call it with another one."""
    (pytester.path / "study.toml").write_text(STUDY)
    options = ("--study", "study.toml", *MODEL, *ALL)

    def serve(settings):
        texts = [f"{name}: {words}" for name, words in settings.items()]
        monkeypatch.setenv("FAKE_MISBEHAVIOUR", "; ".join(texts))

    serve(SOUND)
    record(project, pytester, *options)

    def run(**settings):
        serve(SOUND | settings)
        project(*options, "--gate=required", "--run-dir", "judged")
        return verdicts(pytester.path / "judged")

    return run


def test_an_unchanged_server_passes(deep, pytester):
    """Each load has its server, and its curve or its rates."""
    found = deep()

    assert {
        f"{KEY}/saturation/saturated_throughput": "PASSED",
        f"{KEY}-prefix/shared-prefix/prefix_hit_rate": "PASSED",
        f"{KEY}-prefix/conversation/prefix_hit_rate": "PASSED",
        f"{KEY}-ngram/speculative/acceptance_length": "PASSED",
    } == found
    results = load(pytester.path / "judged")
    (ramp,) = [
        row for row in results.measurements if row.workload == "saturation"
    ]
    streams = [step.streams for step in ramp.repetitions[0].steps]
    assert [4, 8, 16, 32, 64] == streams


@pytest.mark.parametrize(
    ("server", "setting", "red"),
    [
        ("llama-small-prefix", "prefix_hits_per_request=0", "prefix_hit_rate"),
        ("llama-small", "accepted_per_request=0", "acceptance_length"),
        ("llama-small", "saturates_at=4", "saturated_throughput"),
    ],
)
def test_a_loss_is_red_where_its_load_is_sent(deep, server, setting, red):
    """A cache that is off, drafts that never hit, streams beyond eight that gain nothing."""
    found = deep(**{server: f"{SOUND[server]} --set {setting}"})

    for case, outcome in found.items():
        expected = "REGRESSED" if case.endswith(red) else "PASSED"
        assert expected == outcome, case


def test_without_the_option_none_is_sent(project):
    """They take minutes on a GPU."""
    result = project(*MODEL, "--collect-only", "-q")

    assert {} == outcomes(result)
    result.stdout.no_fnmatch_line("*saturation*")


def test_a_load_that_is_not_declared_is_refused(project):
    """The message lists those that are."""
    result = project(*MODEL, "--deep", "saturaton", "--collect-only")

    assert 4 == result.ret
    text = result.stdout.str() + result.stderr.str()
    assert "--deep saturaton" in text
    assert "saturation" in text
