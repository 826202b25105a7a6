"""Made models: the model's own config.json, a tokenizer, and the same bytes each time."""

import hashlib
import json
import resource

import msgspec
import pytest
from safetensors import safe_open

from perfgate.models.catalogue import CATALOGUE, Model, parse_config
from perfgate.models.made import (
    SEED,
    CannotMake,
    make,
    make_shell,
    written_config,
)
from perfgate.models.tensors import recipe
from perfgate.study import read_study
from perfgate.study.shipped import shipped
from tests.support.checkpoints import TINY, quiet, tiny

FAMILIES = read_study(shipped().study.with_name("families.toml"))
MODELS = CATALOGUE | FAMILIES.models


def test_a_config_without_a_family_is_refused():
    """The arithmetic takes that of text_config, and an engine needs one outside of it."""
    model = tiny("llama-small")
    inner = msgspec.structs.replace(model, config={"text_config": model.config})

    with pytest.raises(CannotMake, match="model_type is missing"):
        written_config(inner)


@pytest.mark.parametrize("base", ["mixtral-small", "llama-small"])
def test_every_parameter_is_written(tmp_path, base):
    """The files hold as many numbers as the arithmetic counts, and the index names each tensor."""
    model = tiny(base)
    folder = make(model, tmp_path / "m", quiet)
    count = 0
    names = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                names.add(name)
                count += tensors.get_tensor(name).size

    assert model.architecture.parameters == count
    assert names == set(
        json.loads((folder / "model.safetensors.index.json").read_text())[
            "weight_map"
        ]
    )


@pytest.mark.parametrize(
    ("base", "number", "digest"),
    [
        ("mixtral-small", 0, "7e5f5eb56698249d7efb2dc4350e2ee4"),
        ("mixtral-small", 1, "5872565aa5187341bcdc055fca573632"),
        ("mixtral-small", 2, "8ca1945d1a36ec495f6253aeeb087512"),
        ("llama-small", 0, "7e5f5eb56698249d7efb2dc4350e2ee4"),
        ("llama-small", 2, "fea7b6ee3c32493f5adfe160fa8f9ee1"),
    ],
)
def test_weights_of_stored_baselines_never_change(
    tmp_path, base, number, digest
):
    """Figures of the small models were recorded with these bytes."""
    folder = make(tiny(base), tmp_path / "m", quiet)
    file = folder / f"model-{number:05d}.safetensors"

    assert digest == hashlib.sha256(file.read_bytes()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("base", "digest"),
    [
        ("mixtral-small", "d2e93c4006136e2660b2b730aec57f8e"),
        ("llama-small", "eb9bf2cebec3a25cba3d4dcbac67f4bc"),
    ],
)
def test_stamps_of_stored_baselines_never_change(base, digest):
    """A folder that an earlier version made is kept, not made again."""
    config = written_config(CATALOGUE[base]) | {"torch_dtype": "float32"}
    stamp = msgspec.json.encode(recipe(config, SEED))

    assert digest == hashlib.sha256(stamp).hexdigest()[:32]


def test_weights_are_reproducible(tmp_path):
    """The same seed gives the same bytes, another one others."""
    model = tiny("llama-small")
    first, second = (make(model, tmp_path / name, quiet) for name in "ab")
    other = make(model, tmp_path / "c", quiet, seed=1)

    file = "model-00001.safetensors"
    assert (first / file).read_bytes() == (second / file).read_bytes()
    assert (first / file).read_bytes() != (other / file).read_bytes()


def test_made_once(tmp_path):
    """A folder made with the same recipe is kept; a half-made one is made again."""
    told = []
    model = tiny("llama-small")
    folder = make(model, tmp_path / "m", told.append)
    make(model, folder, told.append)
    (folder / "perfgate.json").unlink()
    make(model, folder, told.append)

    assert 2 == len(told)


@pytest.mark.parametrize(
    "name", ["model-00001.safetensors", "tokenizer.json", "config.json"]
)
def test_a_stamp_is_no_proof_of_the_rest(tmp_path, name):
    """A folder that lost a file since, or a part of one, is made again."""
    model = tiny("llama-small")
    folder = make(model, tmp_path / "m", quiet)
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(b"")
    make(model, folder, quiet)

    assert before == (folder / name).read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_any_config_is_written_back(tmp_path, name):
    """Whatever the family, the folder's config.json is the model's own and reads as its shape."""
    model = MODELS[name]
    folder = make_shell(model, tmp_path / "m")
    written = json.loads((folder / "config.json").read_text())

    assert model.config == {key: written[key] for key in model.config}
    assert model.architecture == parse_config(written, "config.json")
    assert written["architectures"]


def test_class_follows_the_family():
    """A study may leave the class out: most families keep one rule."""
    config = TINY | {"model_type": "qwen3_moe", "num_experts": 4}
    model = CATALOGUE["llama-small"]
    written = written_config(
        Model(name="m", architecture=model.architecture, config=config)
    )

    assert ["Qwen3MoeForCausalLM"] == written["architectures"]


def test_remote_code_is_left_out():
    """An engine would ask for code that the made folder does not hold."""
    model = CATALOGUE["llama-small"]
    config = model.config | {"auto_map": {"AutoConfig": "configuration_x.X"}}
    written = written_config(
        Model(name="m", architecture=model.architecture, config=config)
    )

    assert "auto_map" not in written


def test_a_shape_alone_cannot_be_made(tmp_path):
    """A model of a stored run has no config.json; the refusal says what to give."""
    model = Model(
        name="old", architecture=CATALOGUE["llama-small"].architecture
    )

    with pytest.raises(CannotMake, match="--model-dir old=DIR"):
        make_shell(model, tmp_path / "m")


def test_quantized_weights_are_not_made(tmp_path):
    """Random float32 weights under a quantized config.json would not load."""
    model = CATALOGUE["llama-small"]
    config = model.config | {"quantization_config": {"quant_method": "fp8"}}
    quantized = Model(name="q", architecture=model.architecture, config=config)

    with pytest.raises(CannotMake, match="--weights dummy"):
        make(quantized, tmp_path / "m", quiet)


def test_a_made_model_is_used_where_nothing_can_be_written(tmp_path):
    """Not even a lock: the folder appeared whole."""
    model = tiny("llama-small")
    folder = make(model, tmp_path / "m", quiet)
    lock = tmp_path / "m.lock"
    lock.unlink(missing_ok=True)

    make(model, folder, quiet)

    assert not lock.exists()


def test_a_place_that_cannot_be_written_names_the_variable(tmp_path):
    """A file stands where the folder of models should be."""
    (tmp_path / "models").touch()

    with pytest.raises(CannotMake, match="PERFGATE_MODELS_DIR"):
        make(tiny("llama-small"), tmp_path / "models" / "m", quiet)


@pytest.mark.parametrize(
    "room_bytes", [1_000, 10_000], ids=["names", "weights"]
)
def test_a_full_disk_is_named_and_left_as_it_was(tmp_path, room_bytes):
    """Of the tokenizer, and of the weights, which fill it most."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        with pytest.raises(CannotMake, match="PERFGATE_MODELS_DIR"):
            make(tiny("llama-small"), tmp_path / "m", quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert ["m.lock"] == [path.name for path in tmp_path.iterdir()]


def test_a_made_model_can_be_read_by_other_users(tmp_path):
    """It may be made in an image and served as an arbitrary UID."""
    folder = make(tiny("llama-small"), tmp_path / "m", quiet)

    modes = {file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert {0o644} == modes
