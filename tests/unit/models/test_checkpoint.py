"""Checkpoint: a folder is whole, and holds what its config.json describes, or is refused."""

import json

import pytest

from perfgate.models.checkpoint import (
    INDEX_FILE,
    MissingWeights,
    WrongWeights,
    check_against_config,
    check_against_list,
    check_tokenizer,
    read_checkpoint,
)
from perfgate.models.headers import BrokenFile
from tests.support.checkpoints import hollow, shards_of, tiny, write_safetensors

MODEL = tiny("mixtral-small")
EXPERT = "model.layers.1.block_sparse_moe.experts"


@pytest.fixture
def folder(tmp_path):
    """A whole folder of a tiny Mixtral: embeddings and two layers."""
    return hollow(MODEL, tmp_path / "m")


def check(folder, **changes):
    """Headers against config.json, perhaps with other fields."""
    architecture = tiny("mixtral-small", **changes).architecture
    check_against_config(read_checkpoint(folder), architecture)


def rewrite(folder, change, dtype="BF16"):
    """Write the last layer's file again with changed tensors."""
    shapes = dict(shards_of(MODEL)[2])
    change(shapes)
    write_safetensors(folder / "model-00002.safetensors", shapes, dtype)
    index = json.loads((folder / INDEX_FILE).read_text())
    kept = {
        name: file
        for name, file in index["weight_map"].items()
        if file != "model-00002.safetensors"
    }
    index["weight_map"] = kept | dict.fromkeys(
        shapes, "model-00002.safetensors"
    )
    (folder / INDEX_FILE).write_text(json.dumps(index))


def without(pattern):
    """A change: tensors whose name holds the pattern are gone."""

    def change(shapes):
        for name in [name for name in shapes if pattern in name]:
            del shapes[name]

    return change


def test_a_whole_folder_passes(folder):
    """All that was described is there."""
    check(folder)
    check_tokenizer(folder)


def test_missing_shards_are_counted_and_named(folder):
    """One of three files is here: the message says how many, and which are not."""
    for number in (1, 2):
        (folder / f"model-0000{number}.safetensors").unlink()

    with pytest.raises(
        MissingWeights,
        match=r"1 of 3 shards is here; 2 missing: model-00001\.safetensors, model-00002",
    ):
        read_checkpoint(folder)


def test_a_link_into_nothing_is_missing(folder):
    """The hub's cache holds links: one whose blob is gone is no file."""
    shard = folder / "model-00001.safetensors"
    shard.unlink()
    shard.symlink_to(folder / "blobs" / "gone")

    with pytest.raises(MissingWeights, match="2 of 3 shards are here"):
        read_checkpoint(folder)


def test_numbers_promise_files_without_an_index(tmp_path):
    """A file that calls itself 1 of 19 tells that 18 are missing."""
    write_safetensors(
        tmp_path / "model-00001-of-00019.safetensors", {"a": (2,)}
    )

    with pytest.raises(
        MissingWeights,
        match=r"1 of 19 shards is here; 18 missing: model-00002-of-00019\S+,"
        r" \S+, \S+ and 15 more",
    ):
        read_checkpoint(tmp_path)


def test_one_file_needs_no_index(tmp_path):
    """Small models are published as one file."""
    write_safetensors(tmp_path / "model.safetensors", {"a": (2,)})

    assert {"a"} == set(read_checkpoint(tmp_path).tensors)


def test_an_empty_shard_is_broken(folder):
    """A file of no bytes is there and holds nothing."""
    (folder / "model-00002.safetensors").write_bytes(b"")

    with pytest.raises(BrokenFile, match=r"(?s)model-00002.*it is empty"):
        read_checkpoint(folder)


def test_config_without_weights_is_missing(folder):
    """A folder that was made for a shape alone holds no model."""
    for path in folder.glob("model*"):
        path.unlink()

    with pytest.raises(MissingWeights, match="no weights"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pytorch_model.bin", "PyTorch's pickles"),
        ("model-Q4_K_M.gguf", r"GGUF \(llama\.cpp\)"),
    ],
)
def test_other_formats_are_named(tmp_path, name, expected):
    """What cannot be checked is called what it is."""
    (tmp_path / name).touch()

    with pytest.raises(WrongWeights, match=f"{name} is {expected}"):
        read_checkpoint(tmp_path)


def test_missing_tokenizer_is_told(tmp_path):
    """Both engines load one, whatever the weights."""
    (tmp_path / "config.json").touch()

    with pytest.raises(MissingWeights, match="tokenizer"):
        check_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"metadata": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": ' + "[" * 100_000,
    ],
)
def test_a_broken_index_is_refused(folder, text):
    """It is not taken for a folder without an index."""
    (folder / INDEX_FILE).write_text(text)

    with pytest.raises(WrongWeights, match=INDEX_FILE):
        read_checkpoint(folder)


def test_an_index_of_another_revision_is_refused(folder):
    """A tensor is not in the file that the index names."""
    write_safetensors(folder / "model-00002.safetensors", {"a": (2,)})

    with pytest.raises(
        WrongWeights, match=r"model-00002\.safetensors lacks model\.layers\.1"
    ):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"num_hidden_layers": 4},
            r"describes 4 layers, but 2 are missing: layers\.2, layers\.3",
        ),
        (
            {"num_local_experts": 16},
            r"16 experts, but 8 are missing: model\.layers\.0\.\S+\.experts\.8,",
        ),
        (
            {"num_local_experts": 4},
            r"gate\.weight in model-00001\S+ has shape \[8, 32\]",
        ),
        (
            {"vocab_size": 128},
            r"embed_tokens\.weight in model-00000\S+ has 64 rows",
        ),
    ],
)
def test_another_config_is_refused(folder, changes, expected):
    """Layers, experts and vocabulary of config.json are those of the tensors."""
    with pytest.raises(WrongWeights, match=expected):
        check(folder, **changes)


def test_an_embedding_without_rows_is_refused(folder):
    """A single number has no shape."""

    def change(shapes):
        shapes["model.embed_tokens.weight"] = ()

    rewrite(folder, change)

    with pytest.raises(
        WrongWeights, match=r"embed_tokens\.weight.* has 0 rows"
    ):
        check(folder)


def test_half_of_the_experts_are_missed(folder):
    """One layer lacks experts: the first of them is named."""

    def change(shapes):
        for expert in range(4, 8):
            without(f".experts.{expert}.")(shapes)

    rewrite(folder, change)

    with pytest.raises(WrongWeights, match=rf"4 are missing: {EXPERT}\.4,"):
        check(folder)


def test_too_few_parameters_are_missed(folder):
    """Where no name tells it, the number of values does."""
    rewrite(folder, without("self_attn"))

    with pytest.raises(WrongWeights, match="B parameters, but the files hold"):
        check(folder)


def test_quantized_tensors_need_a_word_of_it(folder):
    """Float8 matrices under a config.json that tells of no quantization are another model."""
    rewrite(folder, lambda shapes: None, "F8_E4M3")

    with pytest.raises(WrongWeights, match="is F8_E4M3"):
        check(folder)
    check(folder, quantization_config={"quant_method": "fp8"})


@pytest.mark.parametrize("count", [8, 4])
def test_fused_experts_are_counted(folder, count):
    """Experts in one tensor are counted by its first dimension."""

    def change(shapes):
        without(".experts.")(shapes)
        fused = "model.layers.1.mlp.experts.gate_up_proj"
        shapes[fused] = (count, 32 * 3, 48)

    rewrite(folder, change)

    if count == 8:
        check(folder)
        return
    with pytest.raises(WrongWeights, match=r"shape \[4, 96, 48\]"):
        check(folder)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_bytes_of_quantized_weights_are_counted(folder, share):
    """A quantized folder has fewer bytes, but not half of what its format needs."""
    for number, shapes in enumerate(shards_of(MODEL)):
        kept = {}
        for name, shape in shapes.items():
            rows = shape[0]
            if "experts" in name:
                rows = int(rows * share)
            kept[name] = (rows, *shape[1:])
        file = folder / f"model-{number:05d}.safetensors"
        write_safetensors(file, kept, "F8_E4M3" if number else "BF16")
    quantized = {"quantization_config": {"quant_method": "fp8"}}

    if share == 1:
        check(folder, **quantized)
        return
    with pytest.raises(WrongWeights, match=r"\(fp8\), but the files hold"):
        check(folder, **quantized)


def listed(**changes):
    """What an engine would list for the model."""
    shapes = {}
    for shard in shards_of(MODEL):
        shapes |= shard
    return shapes | changes


def test_shapes_are_those_that_the_engine_lists(folder):
    """Another width is refused with both shapes and the file."""
    found = read_checkpoint(folder)
    check_against_list(found, listed(), False)

    with pytest.raises(
        WrongWeights,
        match=r"experts\.7\.w1\.weight of shape \[96, 32\], but in model-00002\S+ its "
        r"shape is \[48, 32\]",
    ):
        check_against_list(
            found, listed(**{f"{EXPERT}.7.w1.weight": (96, 32)}), False
        )


def test_a_tensor_that_all_others_have_is_missed(folder):
    """Of its kind there are others; quantized ones may have other names."""
    rewrite(folder, without("q_proj"))
    found = read_checkpoint(folder)

    with pytest.raises(
        WrongWeights, match=r"layers\.1\.self_attn\.q_proj\.weight .* no file"
    ):
        check_against_list(found, listed(), False)
    check_against_list(found, listed(), True)


def test_names_of_ones_own_are_left_to_the_engine(folder):
    """A kind that the checkpoint does not name at all may be stored in another form."""
    found = read_checkpoint(folder)

    check_against_list(
        found, listed(**{"model.layers.0.mlp.fused": (4, 4)}), False
    )
