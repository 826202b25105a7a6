"""Data sets: what --dataset and the study name becomes prompts, or an error that helps."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from perfgate import locations
from perfgate.config.datasets import check_datasets, draw_datasets
from perfgate.config.option_values import BadOption
from perfgate.load.frozen import freeze
from perfgate.load.prompt_text import UnusableWorkload
from perfgate.load.prompts import WORDS, ShareGPT
from perfgate.study import subjects_of
from tests.support.studies import SHIPPED
from tests.support.study_files import read_small

USES = """
[datasets.chats]
{keys}
[workloads.short.chat]
dataset = "chats"
num_prompts = 2
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A project in an empty folder, whose models nobody has named."""
    locations.use(locations.default_locations(tmp_path))
    monkeypatch.delenv("PERFGATE_MODEL_MIXTRAL_8X7B", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def chats(tmp_path):
    """A file of twenty conversations."""
    turns = [{"value": "w1 w2 w3 w4 w5 w6"}, {"value": "w7 w8 w9 w10"}]
    path = tmp_path / "chats.json"
    path.write_text(json.dumps([{"conversations": turns}] * 20))
    return path


def draw(file, platform="cpu", given=(), model_dirs=(), truncated=False):
    """The data sets of the platform's first pair."""
    subject = subjects_of(file, platform)[0]
    given, model_dirs = dict(given), dict(model_dirs)
    return draw_datasets(file, platform, subject, given, model_dirs, truncated)


def test_the_studys_own_file_is_drawn(tmp_path, chats):
    """Its path counts from the study; the suite's own models count words."""
    file = read_small(tmp_path, more=USES.format(keys='file = "chats.json"'))
    drawn = draw(file)["chats"]

    assert "chats from chats.json, 20 usable prompts" == drawn.source
    assert str(tmp_path / ".prompts") in drawn.path


def test_the_option_replaces_it(tmp_path, chats):
    """Another file, or prompts that were drawn before."""
    file = read_small(tmp_path, more=USES.format(keys='file = "no.json"'))
    spec = ShareGPT(path=str(chats), tokenizer=WORDS)
    kept = freeze("chats", spec, tmp_path / "kept.jsonl")

    from_json = draw(file, given={"chats": str(chats)})["chats"]
    assert kept == draw(file, given={"chats": kept.path})["chats"]
    assert kept.sha256 == from_json.sha256


def test_a_published_models_tokenizer_is_used(tmp_path, chats):
    """Of the first model, for all: so that all get one load."""
    folder = tmp_path / "mixtral"
    folder.mkdir()
    words = {f"w{number}": number for number in range(20)}
    tokenizer = tokenizers.Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    given = {"sharegpt": str(chats)}
    drawn = draw(SHIPPED, "gpu", given, {"mixtral-8x7b": str(folder)})

    lines = Path(drawn["sharegpt"].path).read_text().splitlines()
    row = json.loads(lines[1])
    assert ([1, 2, 3, 4, 5, 6], 4) == (
        row["prompt_token_ids"],
        row["output_len_tokens"],
    )


def test_without_its_tokenizer_the_command_is_named(chats):
    """That draws the prompts where there is one."""
    with pytest.raises(BadOption) as caught:
        draw(SHIPPED, "gpu", {"sharegpt": str(chats)})

    assert "no tokenizer.json of mixtral-8x7b" in caught.value.seen
    assert "perfgate prompts chats.json --tokenizer" in caught.value.remedy


def test_without_the_file_the_shipped_rates_are_synthetic():
    """Nothing is drawn for GPUs; the CPU has its own conversations."""
    assert {} == draw(SHIPPED, "gpu")
    assert ["conversations"] == list(draw(SHIPPED))


def test_a_workload_without_prompts_is_refused(tmp_path):
    """Nothing takes its place."""
    file = read_small(tmp_path, more=USES.format(keys=""))

    with pytest.raises(BadOption) as caught:
        draw(file)
    assert "--dataset chats=FILE" in caught.value.remedy


@pytest.mark.parametrize("by_option", [True, False])
def test_a_cut_off_file_needs_consent(tmp_path, chats, by_option):
    """On the command line or in the study."""
    chats.write_bytes(chats.read_bytes()[:-20])
    more = USES.format(keys='file = "chats.json"')
    with pytest.raises(UnusableWorkload, match="19 whole conversations"):
        draw(read_small(tmp_path, more=more))

    if not by_option:
        more = USES.format(keys='file = "chats.json"\nallow_truncated = true')
    drawn = draw(read_small(tmp_path, more=more), truncated=by_option)
    assert "cut off" in drawn["chats"].source


@pytest.mark.parametrize(
    ("name", "path", "seen"),
    [
        ("sharegp", "x.json", "the study's data sets are: sharegpt, conv"),
        ("sharegpt", "/not/here.json", "there is no file /not/here.json"),
    ],
)
def test_bad_options_are_refused(name, path, seen):
    """With what was written."""
    with pytest.raises(BadOption) as caught:
        check_datasets({name: path}, SHIPPED)

    assert seen in caught.value.seen
    assert f"--dataset {name}={path}" == caught.value.tried
