"""Prompt and tokenizer files as one finds them: encodings, halves of pairs, own truncation."""

import json

import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from perfgate.load.prompts import (
    PromptFile,
    ShareGPT,
    UnusableWorkload,
    load,
    load_tokenizer,
)


def saved(folder, prepare=lambda tokenizer: None):
    """A tokenizer of one id a word, saved after it was prepared."""
    words = {f"w{i}": i for i in range(100)} | {"zwölf": 100}
    model = tokenizers.Tokenizer(WordLevel(words, unk_token="w0"))
    model.pre_tokenizer = WhitespaceSplit()
    prepare(model)
    model.save(str(folder / "tokenizer.json"))
    return str(folder)


def conversation(*texts):
    """As published."""
    turns = [{"from": "human", "value": text} for text in texts]
    return {"id": "x", "conversations": turns}


def sharegpt(folder, data, **fields):
    """A file of these bytes as a source of prompts."""
    path = folder / "prompts.json"
    path.write_bytes(data)
    return ShareGPT(path=str(path), tokenizer=str(folder), **fields)


def truncated(model):
    """As some models ship it."""
    model.enable_truncation(max_length=5)


def padded(model):
    """And the other way round."""
    model.enable_padding(length=300, pad_id=1, pad_token="w1")


@pytest.mark.parametrize("prepare", [truncated, padded])
def test_a_tokenizers_own_truncation_and_padding_do_not_count(
    tmp_path, prepare
):
    """Lengths are those that an engine counts, which ignores both."""
    plain = tmp_path / "plain"
    odd = tmp_path / "odd"
    entries = []
    for count in (3, 10, 700, 1500):
        entries.append(conversation("w1 " * count, "w2 " * 20))
    pools = []
    for folder, change in ((plain, lambda model: None), (odd, prepare)):
        folder.mkdir()
        saved(folder, change)
        pools.append(load(sharegpt(folder, json.dumps(entries).encode())))

    assert pools[0] == pools[1]
    assert [10, 700] == [len(ids) for ids, _ in pools[1].prompts]
    assert 3 == len(load_tokenizer(odd).encode("w1 w2 w3").ids)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32", "cp1252"])
def test_another_encoding_is_refused_with_the_path_and_a_command(
    tmp_path, encoding
):
    """In both kinds of file."""
    saved(tmp_path)
    text = json.dumps([conversation("zwölf", "x")], ensure_ascii=False)
    lines = json.dumps({"prompt": "zwölf"}, ensure_ascii=False)
    spec = sharegpt(tmp_path, text.encode(encoding))
    path = tmp_path / "p.jsonl"
    path.write_bytes(lines.encode(encoding))
    other = PromptFile(
        path=str(path), tokenizer=str(tmp_path), output_len_tokens=4
    )
    for source in (spec, other):
        with pytest.raises(UnusableWorkload, match="is not UTF-8") as caught:
            load(source)
        assert source.path in caught.value.tried
        assert "iconv" in caught.value.remedy


def test_the_line_of_the_first_wrong_byte_is_named(tmp_path):
    """So that it can be found."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt_token_ids": [1]}\n\n{"prompt": "\xff"}\n')

    with pytest.raises(UnusableWorkload, match="line 3 is not UTF-8"):
        load(PromptFile(path=str(path), output_len_tokens=4))


def test_a_byte_order_mark_is_skipped(tmp_path):
    """As editors of Windows write it."""
    saved(tmp_path)
    data = json.dumps([conversation("w1 " * 9, "w2 " * 9)]).encode()

    assert 1 == len(load(sharegpt(tmp_path, b"\xef\xbb\xbf" + data)).prompts)


def test_half_of_a_surrogate_pair_costs_its_own_conversation(tmp_path):
    """Not the whole file, wherever in an entry it stands."""
    saved(tmp_path)
    good = conversation("w1 " * 9, "w2 " * 9)
    halves = [conversation("\ud83d " * 9, "w2 " * 9), {**good, "id": "\ud83d"}]
    pool = load(sharegpt(tmp_path, json.dumps([good, *halves]).encode()))

    assert 2 == len(pool.prompts)
    assert (("with half of a surrogate pair", 1),) == pool.left_out


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"[" + b"9" * 5000, b"{", b"", b"\x00\x00"]
)
def test_what_is_no_json_is_refused(tmp_path, data):
    """Nesting and numbers without end are no crash."""
    saved(tmp_path)
    with pytest.raises(UnusableWorkload, match="prompts"):
        load(sharegpt(tmp_path, data))


@pytest.mark.parametrize(
    "line", ['{"prompt": "\\ud83d"}', "[" * 100_000, '{"prompt":' + "[" * 10**5]
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line):
    """By its number."""
    path = tmp_path / "p.jsonl"
    path.write_text(f'{{"prompt_token_ids": [1]}}\n{line}\n')

    with pytest.raises(UnusableWorkload, match="line 2"):
        load(
            PromptFile(
                path=str(path), tokenizer=saved(tmp_path), output_len_tokens=4
            )
        )


def test_a_tokenizer_is_read_in_utf_8_whatever_the_locale(
    tmp_path, monkeypatch
):
    """Its file is JSON."""
    folder = saved(tmp_path)
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")

    assert [100] == load_tokenizer(tmp_path).encode("zwölf").ids
    assert folder == str(tmp_path)
