"""Workload tables: lengths in one of three ways, and what stands in for a missing data set."""

import pytest

from perfgate.load.frozen import Frozen
from perfgate.load.workload import Drawn, Synthetic
from perfgate.study import BadStudy, ServerChoices, study_of
from tests.support.study_files import read_small

CHATS = """
[datasets.chats]
[workloads.short.chat]
dataset = "chats"
without_dataset = "alone"
num_prompts = 4
request_rate = 2.0
"""
RATES = ('sweep = ["alone"]', 'sweep = ["alone"]\nrates = ["chat"]')


def workload(folder, *lines):
    """A workload of these lines."""
    text = "\n".join(["[workloads.short.other]", "num_prompts = 4", *lines])
    return read_small(folder, more=text).workloads["short"]["other"]


def test_fixed_lengths(tmp_path):
    """As before."""
    lines = ("input_len_tokens = 8", "output_len_tokens = 4")

    expected = Synthetic(input_len_tokens=8, output_len_tokens=4)
    assert expected == workload(tmp_path, *lines).prompts


def test_a_distribution_of_lengths(tmp_path):
    """And a staggered start."""
    lines = ("input_quantiles = [8, 16]", "output_quantiles = [4, 8, 64]")
    read = workload(tmp_path, *lines, "max_concurrency = 2", "staggered = true")

    expected = Drawn(input_quantiles=(8, 16), output_quantiles=(4, 8, 64))
    assert (expected, True) == (read.prompts, read.staggered)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("input_len_tokens = 8",),
        ("output_quantiles = [4, 8]",),
        (
            "input_len_tokens = 8",
            "output_len_tokens = 8",
            "input_quantiles = [4, 8]",
            "output_quantiles = [4, 8]",
        ),
    ],
)
def test_lengths_in_no_way_or_in_two_are_refused(tmp_path, lines):
    """The message names the table and the three ways."""
    with pytest.raises(BadStudy) as caught:
        workload(tmp_path, *lines)

    assert "[workloads.short.other]" in caught.value.seen
    assert "or dataset" in caught.value.remedy


def test_a_wrong_distribution_is_refused(tmp_path):
    """With the table."""
    lines = ("input_quantiles = [8, 4]", "output_quantiles = [4, 8]")

    with pytest.raises(BadStudy, match=r"short.other.*input_quantiles"):
        workload(tmp_path, *lines)


def test_a_data_set_gives_the_prompts(tmp_path):
    """Where it is given; the name of the workload says so."""
    file = read_small(tmp_path, RATES, more=CHATS)
    chats = Frozen(path="p", source="chats", file="c.json", sha256="0" * 64)
    choices = ServerChoices(datasets={"chats": chats})
    (rate,) = study_of(file, "cpu", "vllm", choices=choices).rates

    assert ("chat", chats) == (rate.name, rate.prompts)


def test_another_load_takes_its_place(tmp_path):
    """Where it is not given; it keeps its own name in every table."""
    file = read_small(tmp_path, RATES, more=CHATS)
    study = study_of(file, "cpu", "vllm")

    assert (file.workloads["short"]["alone"],) == study.rates


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (('dataset = "chats"', 'dataset = "chat"'), "dataset"),
        (('without_dataset = "alone"', 'without_dataset = "alon"'), "without"),
    ],
)
def test_names_must_be_declared(tmp_path, change, field):
    """With a suggestion."""
    with pytest.raises(BadStudy) as caught:
        read_small(tmp_path, more=CHATS.replace(*change))

    assert field in caught.value.seen
    assert "did you mean" in caught.value.remedy
