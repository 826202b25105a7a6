"""Models of a study file: where the shape comes from, inheritance, and their own server keys."""

import json

import pytest

from perfgate.models.config_files import read_config
from perfgate.study import BadStudy, ServerChoices, study_of
from perfgate.study.selection import select
from tests.support.studies import SHIPPED
from tests.support.study_files import config_table, read_small

SMALL = SHIPPED.models["llama-small"]
SHAPE = SMALL.architecture
TABLE = f"[models.dense.config]\n{config_table('llama-small')}"


def write_config(folder):
    """A config.json of the small dense model; returns its folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SMALL.config))
    return folder


def test_a_model_may_be_a_folder(tmp_path):
    """The shape is read from its config.json; a relative path counts from the study file."""
    folder = write_config(tmp_path / "weights")
    file = read_small(tmp_path, (TABLE, '[models.dense]\nfolder = "weights"'))

    assert (SHAPE, SMALL.config, str(folder)) == (
        file.models["dense"].architecture,
        file.models["dense"].config,
        file.models["dense"].folder,
    )


def test_files_beside_the_config_tell_a_quantization(tmp_path):
    """As where the folder is estimated by its path."""
    folder = write_config(tmp_path / "weights")
    told = {"quantization": {"quant_algo": "FP8"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(told))

    file = read_small(tmp_path, (TABLE, '[models.dense]\nfolder = "weights"'))

    shape = file.models["dense"].architecture
    assert (read_config(folder), "fp8") == (shape, shape.quantization)


def test_a_config_may_be_a_file(tmp_path):
    """It is kept whole, also the fields that the arithmetic does not need."""
    config = SMALL.config | {"house_field": [1, None]}
    (tmp_path / "shape.json").write_text(json.dumps(config))
    file = read_small(
        tmp_path, (TABLE, '[models.dense]\nconfig = "shape.json"')
    )

    assert (SHAPE, config) == (
        file.models["dense"].architecture,
        file.models["dense"].config,
    )


def test_a_model_may_be_a_hub_id_alone(tmp_path, monkeypatch):
    """The shape is that of the config.json in the hub's cache; no weights are needed."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    write_config(tmp_path / "hub/models--acme--small/snapshots/1a2b")
    file = read_small(
        tmp_path, (TABLE, '[models.dense]\nhub_id = "acme/small"')
    )

    assert (SHAPE, "acme/small") == (
        file.models["dense"].architecture,
        file.models["dense"].hub_id,
    )


def test_a_hub_id_that_is_not_in_the_cache_says_how_to_get_its_shape(
    tmp_path, monkeypatch
):
    """The message has the command that fetches config.json alone."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    change = (TABLE, '[models.dense]\nhub_id = "acme/small"')

    with pytest.raises(BadStudy, match=r"hf download acme/small config\.json"):
        read_small(tmp_path, change)


def test_a_model_inherits_from_another(tmp_path):
    """Another precision is one table: shape and weights are the same, the server is not."""
    more = """
[models.half]
like = "dense"
quantization = "fp8"
kv_cache_dtype = "fp8"
dtype = "float16"
"""
    file = read_small(tmp_path, more=more)
    (pair,) = select(file, ["half:dense"], [])
    study = study_of(file, "cpu", "vllm", subject=pair)

    assert SHAPE == file.models["half"].architecture
    assert ("fp8", "fp8", "float16") == (
        study.model.quantization,
        study.model.kv_cache_dtype,
        study.model.dtype,
    )
    assert "vllm-half-tp2-fp8-kv-fp8" == study.model.key
    assert ("", "auto", "float32") == (
        study.reference.quantization,
        study.reference.kv_cache_dtype,
        study.reference.dtype,
    )
    assert () == study.sparse


def test_other_weights_inherit_no_shape(tmp_path):
    """A folder of its own has a config.json of its own."""
    write_config(tmp_path / "weights")
    more = '[models.own]\nlike = "sparse"\nfolder = "weights"\n'

    assert SHAPE == read_small(tmp_path, more=more).models["own"].architecture


def test_a_model_replaces_keys_of_the_server(tmp_path):
    """Of the platform's server; --tp replaces both."""
    more = """
[models.own]
like = "dense"
[models.own.server]
tensor_parallel_size = 4
max_model_len = 128
extra_args = {vllm = ["--seed", "7"]}
"""
    file = read_small(tmp_path, more=more)
    subject = select(file, [], ["own"])[0]
    vllm = study_of(file, "cpu", "vllm", subject=subject).model
    sglang = study_of(file, "cpu", "sglang", subject=subject).model
    fewer = study_of(
        file, "cpu", "vllm", subject, ServerChoices(tensor_parallel_size=1)
    ).model

    assert (4, 128, "float32") == (
        vllm.tensor_parallel_size,
        vllm.max_model_len,
        vllm.dtype,
    )
    assert ("--seed", "7") == vllm.extra_args[-2:]
    assert () == sglang.extra_args
    assert 1 == fewer.tensor_parallel_size


def test_what_spreads_experts_is_for_sparse_models_alone(tmp_path):
    """A dense model has no experts: an engine refuses to spread them."""
    spread = """max_model_len = 256
expert_parallel = true
data_parallel_size = 2
data_parallel_attention = true
"""
    file = read_small(tmp_path, ("max_model_len = 256", spread))
    study = study_of(file, "cpu", "sglang")

    assert (True, True) == (
        study.model.expert_parallel,
        study.model.data_parallel_attention,
    )
    assert (2, False, False) == (
        study.reference.data_parallel_size,
        study.reference.expert_parallel,
        study.reference.data_parallel_attention,
    )
    ((ep, tp),) = study.spread_and_split
    assert study.model == ep
    assert not tp.expert_parallel


@pytest.mark.parametrize(
    ("engine", "expected"), [("vllm", True), ("sglang", False)]
)
def test_a_server_says_whether_its_copies_share_experts(
    tmp_path, engine, expected
):
    """In vLLM those of a sparse model always do; in SGLang they do where they are told to."""
    copies = "max_model_len = 256\ndata_parallel_size = 2"
    file = read_small(tmp_path, ("max_model_len = 256", copies))
    study = study_of(file, "cpu", engine)

    assert (expected, False) == (
        study.model.data_parallel_attention,
        study.reference.data_parallel_attention,
    )
    assert (4, 4) == (study.model.ranks, study.reference.ranks)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('[models.x]\nlike = "dnese"\n', ["[models.x]", "did you mean dense?"]),
        ('[models.x]\nlike = "x"\n', ["[models.x]", "x -> x"]),
        ("[models.x]\nlike = 1\n", ["[models.x]", "like is 1"]),
        (
            '[models.x]\nlike = "dense"\nquantization = "fp9"\n',
            ["[models.x]", "did you mean fp8?", "config.json"],
        ),
        (
            '[models.x]\nlike = "dense"\nkv_cache_dtype = "fp4"\n',
            ["[models.x]", "kv_cache_dtype"],
        ),
        ("[models.x]\nserved = true\n", ["[models.x]", "neither config"]),
        ('[models.x]\nfolder = "no"\n', ["[models.x]", "there is no"]),
        ('[models.x]\nconfig = "no.json"\n', ["[models.x]", "no.json"]),
        (
            '[models.x]\nlike = "dense"\n[models.x.server]\ntp = 2\n',
            ["[models.x.server]", "unknown key 'tp'"],
        ),
    ],
)
def test_mistakes_are_named(tmp_path, more, expected):
    """Each says file, table and key."""
    with pytest.raises(BadStudy) as caught:
        read_small(tmp_path, more=more)

    for text in expected:
        assert text in str(caught.value)
