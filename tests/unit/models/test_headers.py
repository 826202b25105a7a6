"""Headers of safetensors: read alone, and every way in which a file can lie."""

import json

import pytest
from safetensors.numpy import save_file

from perfgate.models.headers import BrokenFile, Tensor, read_header
from tests.support.checkpoints import write_safetensors

SHAPES = {"a.weight": (4, 8), "b.weight": (8,)}


def write_raw(path, header, values_bytes):
    """A file with that header, right or wrong, and so many bytes of values."""
    text = json.dumps(header).encode()
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + bytes(values_bytes)
    )


def test_names_types_and_shapes_are_read(tmp_path):
    """What the library writes is read without its values."""
    import numpy as np

    values = {name: np.ones(shape, "f4") for name, shape in SHAPES.items()}
    save_file(values, tmp_path / "m.safetensors", metadata={"format": "pt"})

    tensors = read_header(tmp_path / "m.safetensors")

    assert SHAPES == {name: tensor.shape for name, tensor in tensors.items()}
    assert Tensor("F32", (8,), (128, 160)) == tensors["b.weight"]


def test_a_file_without_values_in_memory(tmp_path):
    """A header of 90 GB is read at once: the values are never touched."""
    write_safetensors(tmp_path / "m.safetensors", {"a": (45_000, 1_000_000)})

    assert 45e9 == read_header(tmp_path / "m.safetensors")["a"].count


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "it is empty"),
        (5, "not even a header"),
        (60, "not the whole header"),
        (-16, "64 of 80 bytes of tensors"),
        (16, "16 bytes follow its last tensor"),
    ],
)
def test_another_length_is_refused(tmp_path, size, expected):
    """A download that stopped is told by its length, wherever it stopped."""
    file = tmp_path / "m.safetensors"
    write_safetensors(file, SHAPES)
    whole = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size if 0 <= size < 16 or size == 60 else whole + size)
        if size == 16:
            stream.truncate(whole + 16)

    with pytest.raises(BrokenFile, match=expected) as error:
        read_header(file)
    assert "m.safetensors" in str(error.value)


@pytest.mark.parametrize(
    ("header", "values_bytes", "expected"),
    [
        (
            {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 4]}},
            4,
            r"a is BF16 of shape \[4\], but has 4 bytes",
        ),
        (
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            12,
            "b begins at byte 4, not at 8",
        ),
        (
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}},
            16,
            "a begins at byte 8, not at 0",
        ),
        ({"a": {"dtype": "F32"}}, 0, "not that of a safetensors file"),
        ({"a": 3}, 0, "not that of a safetensors file"),
        ([], 0, "not that of a safetensors file"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(
    tmp_path, header, values_bytes, expected
):
    """Sizes, places and form are compared with each other; the tensor is named."""
    file = tmp_path / "m.safetensors"
    write_raw(file, header, values_bytes)

    with pytest.raises(BrokenFile, match=expected):
        read_header(file)


def test_a_page_of_html_is_no_header(tmp_path):
    """What a proxy answered in place of the file is refused, whatever its first bytes mean."""
    file = tmp_path / "m.safetensors"
    file.write_text("<!doctype html><title>Sign in</title>")

    with pytest.raises(BrokenFile, match="bytes long"):
        read_header(file)


def test_a_header_that_is_nested_too_deeply_is_refused(tmp_path):
    """Damaged bytes may be valid brackets."""
    text = b'{"a":' + b"[" * 100_000
    file = tmp_path / "m.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text)

    with pytest.raises(BrokenFile, match="not that of a safetensors file"):
        read_header(file)


def test_an_unreadable_file_is_refused(tmp_path):
    """A folder in its place is named, not a traceback."""
    (tmp_path / "m.safetensors").mkdir()

    with pytest.raises(BrokenFile, match="Is a directory"):
        read_header(tmp_path / "m.safetensors")


def test_a_type_of_a_later_version_is_not_judged(tmp_path):
    """Its size is unknown here, so its place is all that is compared."""
    file = tmp_path / "m.safetensors"
    header = {"a": {"dtype": "F6", "shape": [4], "data_offsets": [0, 3]}}
    write_raw(file, header, 3)

    assert "F6" == read_header(file)["a"].dtype
