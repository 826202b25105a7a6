"""Conversations of a ShareGPT file: both clients send the same ones in each round."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from perfgate.load.measurement import Target
from perfgate.load.other_clients import CLIENTS, requests_of, turn_of
from perfgate.load.prompts import ShareGPT, load_tokenizer
from perfgate.load.workload import Workload


@pytest.fixture
def folder(tmp_path):
    """A tokenizer of one id a word, and a file of forty conversations of many lengths."""
    words = {f"w{number}": number for number in range(500)}
    tokenizer = tokenizers.Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    entries = []
    for number in range(40):
        question = " ".join(f"w{number + place}" for place in range(5 + number))
        turns = [{"value": question}, {"value": "w1 " * (60 - number)}]
        entries.append({"conversations": turns})
    (tmp_path / "chats.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.fixture
def workload(folder):
    """Ten of them at a time."""
    prompts = ShareGPT(path=str(folder / "chats.json"), tokenizer=str(folder))
    return Workload(
        name="crosscheck", prompts=prompts, num_prompts=10, max_concurrency=4
    )


def target(folder):
    """A server that is never asked."""
    return Target(
        url="http://127.0.0.1:9",
        served_model="m",
        vocab_size=500,
        engine="vllm",
        tokenizer=str(folder),
    )


def sent(folder, workload, turn, is_backwards):
    """What a turn sends."""
    tokenizer = load_tokenizer(folder)
    asked = turn_of(workload, turn)
    return requests_of(target(folder), asked, tokenizer, is_backwards)


def lengths(requests):
    """Of prompts and answers."""
    return [(len(r.prompt_token_ids), r.output_len_tokens) for r in requests]


def test_a_rounds_two_turns_have_one_set_of_lengths(folder, workload):
    """And no prompt in common, which a prefix cache would answer."""
    first = sent(folder, workload, 0, is_backwards=False)
    second = sent(folder, workload, 1, is_backwards=True)
    next_round = sent(folder, workload, 2, is_backwards=False)

    assert lengths(first) == lengths(second)
    assert lengths(first) != lengths(next_round)
    assert not {r.text for r in first} & {r.text for r in second}


def test_vllms_client_reads_them_from_a_file(folder, workload):
    """Texts and answers of those lengths, in that order, and no others."""
    requests = sent(folder, workload, 1, is_backwards=True)
    command = CLIENTS["vllm"].arguments(
        target(folder), turn_of(workload, 1), requests, folder
    )

    path = command[command.index("--dataset-path") + 1]
    assert str(folder / "conversations.json") == path
    assert "sharegpt" == command[command.index("--dataset-name") + 1]
    assert "--disable-shuffle" in command
    encode = load_tokenizer(folder).encode
    found = []
    entries = json.loads(Path(path).read_text())
    for entry, request in zip(entries, requests, strict=True):
        question, answer = [turn["value"] for turn in entry["conversations"]]
        assert request.text == question
        found.append((len(encode(question).ids), len(encode(answer).ids)))
    assert lengths(requests) == found
