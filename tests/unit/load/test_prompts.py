"""Prompt files: used as they are; what is left out is reported."""

import json

import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from perfgate.load.prompts import PromptFile, ShareGPT, UnusableWorkload, load
from perfgate.load.workload import Workload, build_requests


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of one id a word: w0 to w99."""
    model = tokenizers.Tokenizer(
        WordLevel({f"w{i}": i for i in range(100)}, unk_token="w0")
    )
    model.pre_tokenizer = WhitespaceSplit()
    model.save(str(tmp_path / "tokenizer.json"))
    return str(tmp_path)


def words(count, start=0):
    """That many tokens."""
    return " ".join(f"w{(start + i) % 100}" for i in range(count))


def turns(*texts):
    """A conversation as published."""
    return {
        "id": "x",
        "conversations": [{"from": "human", "value": text} for text in texts],
    }


@pytest.fixture
def sharegpt(tmp_path, tokenizer):
    """Write conversations to a file and describe them as a source of prompts."""

    def write(entries, **fields):
        path = tmp_path / f"sharegpt{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(entries))
        return ShareGPT(path=str(path), tokenizer=tokenizer, **fields)

    return write


def test_first_turn_is_sent_and_second_gives_the_length(sharegpt):
    """The conversation's first two turns, as published."""
    pool = load(sharegpt([turns(words(5), words(9), words(50))]))

    assert (((0, 1, 2, 3, 4), 9),) == pool.prompts


def test_odd_conversations_are_counted_and_said(sharegpt):
    """Empty, one-sided, malformed and badly sized conversations are left out with a count."""
    odd = [
        {},
        {"conversations": []},
        turns(words(9)),
        {"conversations": [{"value": 3}, {}]},
        "text",
        None,
    ]
    pool = load(
        sharegpt(
            [
                *odd,
                turns(words(3), words(9)),
                turns(words(2000), words(9)),
                turns(words(9), words(9)),
            ]
        )
    )

    assert 1 == len(pool.prompts)
    assert (
        "1 usable prompts; left out: 1 longer than 1,024 tokens in or "
        "2,048 in all, 1 shorter than 4 tokens, "
        "6 without two turns of text" == pool.describe()
    )


@pytest.mark.parametrize(
    ("length_filter", "kept"), [("vllm", 1), ("sglang", 3)]
)
def test_each_clients_filter(sharegpt, length_filter, kept):
    """One wants 4 tokens and at most 1,024 in; the other 2 tokens and sets no limit."""
    entries = [
        turns(words(3), words(3)),
        turns(words(1025), words(9)),
        turns(words(9), words(9)),
    ]

    assert kept == len(
        load(sharegpt(entries, length_filter=length_filter)).prompts
    )


def test_repetitions_take_different_conversations(sharegpt):
    """No prompt is sent twice, warm-up included."""
    spec = sharegpt([turns(words(5, i), words(5)) for i in range(40)])
    workload = Workload(name="s", prompts=spec, num_prompts=10)
    sent = [
        r.prompt_token_ids
        for k in (-1, 0, 1, 2)
        for r in build_requests(workload, k, 100)
    ]

    assert 40 == len(set(sent))


def test_a_warm_up_may_be_larger_than_a_repetition(sharegpt):
    """Its passes take prompts of their own, too."""
    spec = sharegpt([turns(words(5, i), words(5)) for i in range(40)])
    workload = Workload(name="s", prompts=spec, num_prompts=5)
    sent = [
        r.prompt_token_ids
        for k in (-1, -2)
        for r in build_requests(workload, k, 100, count=15)
    ]
    sent += [r.prompt_token_ids for r in build_requests(workload, 1, 100)]

    assert 35 == len(set(sent))


def test_too_few_conversations_are_an_error(sharegpt):
    """There is no oversampling: the fourth repetition of ten has nothing left of 35."""
    workload = Workload(
        name="s",
        prompts=sharegpt([turns(words(5, i), words(5)) for i in range(35)]),
        num_prompts=10,
    )

    with pytest.raises(UnusableWorkload, match="35 usable prompts") as raised:
        build_requests(workload, 3, 100)
    assert "never sent twice" in raised.value.remedy


def test_fingerprint_is_of_the_files_contents(sharegpt):
    """The same file elsewhere is the same workload; another file is not."""
    one, same = (sharegpt([turns(words(5), words(5))]) for _ in range(2))
    other = sharegpt([turns(words(6), words(5))])
    prints = [
        Workload(name="s", prompts=spec, num_prompts=1).fingerprint()
        for spec in (one, same, other)
    ]

    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("text", ["{", '{"a": 1}'])
def test_a_file_that_is_not_sharegpt_is_named(tmp_path, tokenizer, text):
    """Broken JSON, and JSON that is no list, are refused with the path."""
    path = tmp_path / "broken.json"
    path.write_text(text)

    with pytest.raises(UnusableWorkload, match=r"broken\.json"):
        load(ShareGPT(path=str(path), tokenizer=tokenizer))


def test_missing_files_are_named(tmp_path):
    """A missing file of prompts is a failure that names it, also in its fingerprint."""
    workload = Workload(
        name="p",
        prompts=PromptFile(path=str(tmp_path / "none.jsonl")),
        num_prompts=1,
    )

    with pytest.raises(UnusableWorkload, match=r"none\.jsonl"):
        build_requests(workload, 0, 100)
    with pytest.raises(UnusableWorkload, match=r"none\.jsonl"):
        workload.fingerprint()


def test_jsonl_takes_text_and_ids(tmp_path, tokenizer):
    """Lines carry text or ids, and optionally their own output length; empty lines are counted."""
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"prompt": "w1 w2"}\n\n{"prompt_token_ids": [5, 6], "output_len_tokens": 3}\n'
    )
    pool = load(
        PromptFile(path=str(path), tokenizer=tokenizer, output_len_tokens=7)
    )

    assert (((1, 2), 7), ((5, 6), 3)) == pool.prompts
    assert (("empty lines", 1),) == pool.left_out


@pytest.mark.parametrize(
    "line",
    ['{"prompt": 3}', "{}", '{"prompt": ""}', "nonsense", '{"prompt": "w1"}'],
)
def test_a_bad_line_is_named(tmp_path, line):
    """The message has the number of the line (the last one needs a tokenizer and has none)."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt_token_ids": [5, 6]}\n' + line)

    with pytest.raises(UnusableWorkload, match="line 2"):
        load(PromptFile(path=str(path)))
