"""Made models: a folder with config.json, a word-level tokenizer and seeded random weights.

The config.json is the model's own, so that any family can be made. Each token id is a
word, so every streamed token is visible text. Weights are float32, one safetensors file
a layer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import msgspec

from perfgate.errors import Failure, describe_error
from perfgate.files import PUBLIC_MODE
from perfgate.models import tensors
from perfgate.models.catalogue import Model
from perfgate.models.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED = 20260412
STAMP_FILE = "perfgate.json"
_SHELL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
# Fields that name code or a format of files which a made folder does not have.
_LEFT_OUT = ("auto_map",)


class CannotMake(Failure):
    """A model that the suite cannot make."""


def make_shell(model: Model, folder: Path) -> Path:
    """Write a model without weights: config.json and a tokenizer. Returns the folder."""
    config = written_config(model)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    tokenizer = _tokenizer(model.architecture.vocab_size)
    # Its own save raises no OSError where the disk is full.
    text = tokenizer.to_str(pretty=True)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": model.architecture.max_position_embeddings,
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    return folder


def make(
    model: Model,
    folder: Path,
    progress: Callable[[str], None],
    python: Path | None = None,
    seed: int = SEED,
) -> Path:
    """Write the model with seeded random weights; keep a folder of the same recipe.

    Args:
        model: the catalogue's entry.
        folder: written whole or not at all.
        progress: called before the weights are made.
        python: of an engine; its transformers names the tensors of most families.
        seed: of all tensors.

    Returns:
        The folder.

    Raises:
        CannotMake: its config.json is unknown or asks for quantized weights, or the
            folder cannot be written.
        UnknownTensors: the tensors of this family cannot be listed.

    """
    config = written_config(model)
    if config.get("quantization_config"):
        raise CannotMake(
            tried=f"making the model {model.name}",
            seen="quantization_config: made weights are float32, never quantized",
            remedy=(
                "remove quantization_config from its config, or measure without "
                "weights: --weights dummy"
            ),
        )
    config.pop("dtype", None)
    config["torch_dtype"] = "float32"
    stamp = msgspec.json.encode(tensors.recipe(config, seed))
    # A made folder appears whole, so that it can be used where nothing can be written.
    if _is_kept(folder, stamp):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not _is_kept(folder, stamp):
                millions = model.architecture.parameters / 1e6
                progress(
                    f"making {model.name}: {millions:.0f} M random weights in {folder}"
                )
                _write(model, folder, config, seed, python)
    except OSError as error:
        raise CannotMake(
            tried=f"making the model {model.name} in {folder}",
            seen=describe_error(error),
            remedy="set PERFGATE_MODELS_DIR to a folder that can be written and has room",
        ) from error
    return folder


def _write(
    model: Model,
    folder: Path,
    config: dict[str, Any],
    seed: int,
    python: Path | None,
) -> None:
    """Write a model beside its folder, and put it in place.

    Raises:
        OSError: it cannot be written; nothing is left of it, for the disk may be full.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_files(model, partial, config, seed, python)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_files(
    model: Model,
    partial: Path,
    config: dict[str, Any],
    seed: int,
    python: Path | None,
) -> None:
    """Write the files of a model into a folder."""
    make_shell(model, partial)
    _write_json(partial / "config.json", config)
    index = tensors.write(config, partial, seed, python)
    _write_json(partial / "model.safetensors.index.json", index)
    stamp = msgspec.json.encode(tensors.recipe(config, seed))
    (partial / STAMP_FILE).write_bytes(stamp)
    # safetensors writes for its owner only; a container may run as another user.
    for file in partial.iterdir():
        file.chmod(PUBLIC_MODE)


def written_config(model: Model) -> dict[str, Any]:
    """The model's config.json, with what an engine needs and a study may leave out.

    The class is added by the rule that most families keep: qwen3_moe is served by
    Qwen3MoeForCausalLM.

    Raises:
        CannotMake: its config.json is unknown, or names no family.

    """
    if not model.config:
        raise CannotMake(
            tried=f"writing the config.json of {model.name}",
            seen="only its shape is known, not its config.json",
            remedy=(
                f"name a folder of the model with --model-dir {model.name}=DIR, or "
                "give its config in the study file"
            ),
        )
    config = dict(model.config)
    if not isinstance(config.get("model_type"), str):
        raise CannotMake(
            tried=f"writing the config.json of {model.name}",
            seen="model_type is missing, by which an engine knows the family",
            remedy="add model_type to its config, outside of text_config",
        )
    for name in _LEFT_OUT:
        config.pop(name, None)
    words = config["model_type"].split("_")
    class_name = "".join(word.capitalize() for word in words)
    config.setdefault("tie_word_embeddings", False)
    config.setdefault("architectures", [f"{class_name}ForCausalLM"])
    config.setdefault("bos_token_id", 1)
    config.setdefault("eos_token_id", 2)
    if "dtype" not in config:
        config.setdefault("torch_dtype", "float32")
    return config


def _is_kept(folder: Path, stamp: bytes) -> bool:
    """Whether the folder has this stamp, and each file is still whole."""
    file = folder / STAMP_FILE
    if not file.is_file() or file.read_bytes() != stamp:
        return False
    try:
        read_checkpoint(folder)
    except Failure:
        return False
    return all(_has_content(folder / name) for name in _SHELL_FILES)


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _tokenizer(vocab_size: int) -> Tokenizer:
    """A word-level tokenizer: token id 7 is the word "t7"."""
    # Imported here: collecting tests must not wait for it.
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["<unk>", "<s>", "</s>"]
    vocabulary = {word: number for number, word in enumerate(special)}
    for number in range(len(special), vocab_size):
        vocabulary[f"t{number}"] = number
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _write_json(path: Path, value: Any) -> None:
    text = msgspec.json.encode(value)
    path.write_bytes(msgspec.json.format(text, indent=1))
