"""Study files: what is read, and which mistakes are refused with file, table and key."""

from __future__ import annotations

import pytest

from perfgate.study import BadStudy, study_of
from tests.support.studies import SHIPPED
from tests.support.study_files import SMALL, read_small

TEXT = SMALL


def read(tmp_path, *changes, text=TEXT):
    """The small study, with (old, new) pieces of text replaced."""
    return read_small(tmp_path, *changes, text=text)


def refused(tmp_path, *changes, text=TEXT):
    """The message of the refusal."""
    with pytest.raises(BadStudy) as caught:
        read(tmp_path, *changes, text=text)
    assert "study.toml" in str(caught.value)
    return str(caught.value)


def test_a_study_of_one_pair_and_one_platform(tmp_path):
    """A file of one pair is a study: both servers, their workloads, and what is left out."""
    study = study_of(read(tmp_path), "cpu", "vllm")

    assert ("vllm-sparse-tp2", "vllm-dense-tp2") == (
        study.moe.key,
        study.dense.key,
    )
    assert ("closed", "alone") == (study.closed.name, study.single_stream.name)
    assert ((), None, "hard") == (study.rates, study.burst, study.absolute)
    assert {"closed", "alone"} == set(study.workloads)
    assert (
        SHIPPED.models["mixtral-small"].architecture
        == read(tmp_path).models["sparse"].architecture
    )


def test_a_workload_is_one_table_more(tmp_path):
    """A question finds it by its name; another name is refused with those that there are."""
    more = "[workloads.short.long]\ninput_len_tokens = 64\noutput_len_tokens = 4\nnum_prompts = 2\n"
    study = study_of(
        read(tmp_path, ("[platforms.cpu]", more + "[platforms.cpu]")),
        "cpu",
        "vllm",
    )

    assert 64 == study.workload("long").prompts.input_len_tokens
    with pytest.raises(
        BadStudy, match="its workloads are: closed, alone, long"
    ):
        study.workload("lnog")


def test_arguments_and_variables_belong_to_their_engine(tmp_path):
    """What one engine is given on its command line and in its environment, the other is not."""
    table = 'max_model_len = 256\nextra_args = { vllm = ["--seed", "7"] }\n'
    table += 'extra_env = { sglang = { SGL_X = "1" } }'
    file = read(tmp_path, ("max_model_len = 256", table))
    vllm, sglang = (
        study_of(file, "cpu", name).dense for name in ("vllm", "sglang")
    )

    assert ("--seed", "7") == vllm.extra_args[-2:]
    assert "--seed" not in sglang.extra_args
    assert ((), (("SGL_X", "1"),)) == (vllm.extra_env, sglang.extra_env)


def test_a_pair_names_a_model_and_its_reference(tmp_path):
    """`sparse` and `dense` are other words for them."""
    plain = read(
        tmp_path,
        ('sparse = "sparse"\n', 'model = "sparse"\n'),
        ('dense = "dense"\n', 'reference = "dense"\n'),
    )

    assert read(tmp_path).pairs == plain.pairs


def test_a_platform_that_names_models_inherits_no_pair(tmp_path):
    """Pairs and single models count as one key."""
    more = '[platforms.one]\nlike = "cpu"\nmodels = ["dense"]\n'
    platform = read_small(tmp_path, more=more).platforms["one"]

    assert ((), ("dense",)) == (platform.pairs, platform.models)


def test_a_platform_inherits_from_another(tmp_path):
    """`like` takes every key of the other platform; its own keys come on top."""
    more = '[platforms.quiet]\nlike = "cpu"\nabout = "a quiet machine"\njudged = "ratios"\n'
    file = read(tmp_path, text=TEXT + more)

    assert ("all", "ratios") == tuple(
        file.platforms[name].judged for name in ("cpu", "quiet")
    )
    assert file.platforms["cpu"].roles == file.platforms["quiet"].roles


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("max_model_len", "max_modle_len"),
            ["[servers.cpu]", "max_modle_len", "max_model_len?"],
        ),
        (
            ("num_prompts", "prompts"),
            ["[workloads.short.closed]", "unknown key 'prompts'"],
        ),
        (
            ("engines =", "engine ="),
            ["the file", "unknown key 'engine'", "did you mean engines?"],
        ),
        (
            ('dense = "dense"', 'dense = "dnse"'),
            ["[pairs.both]", "'dnse'", "did you mean dense?"],
        ),
        (
            ('pair = "both"', 'pair = "all"'),
            ["[platforms.cpu]", "pair names 'all'", "both"],
        ),
        (
            ('server = "cpu"', 'server = "gpu"'),
            ["[platforms.cpu]", "server names 'gpu'", "cpu"],
        ),
        (
            ('closed = "closed"', 'closed = "open"'),
            ["[platforms.cpu.roles]", "closed names 'open'"],
        ),
        (
            ("num_prompts = 4", 'num_prompts = "4"'),
            ["[workloads.short.closed]", "num_prompts"],
        ),
        (
            ("num_prompts = 4", "num_prompts = 0"),
            ["[workloads.short.closed]", "at least 1"],
        ),
        (
            ("max_model_len = 256", 'max_model_len = "x"'),
            ["[servers.cpu]", "max_model_len", "int"],
        ),
        (
            ('"cpu"\npair', '"cpu"\nlike = "cpu"\npair'),
            ["[platforms.cpu]", "cpu -> cpu"],
        ),
        (
            ('"cpu"\npair', '"cpu"\ngpu = "h200"\npair'),
            ["[platforms.cpu]", "gpu is set"],
        ),
        (
            ('pair = "both"', 'pairs = ["all"]'),
            ["[platforms.cpu]", "pairs names 'all'", "both"],
        ),
        (
            ('pair = "both"', 'models = ["dens"]'),
            ["[platforms.cpu]", "models names 'dens'", "did you mean dense?"],
        ),
        (
            ('pair = "both"', 'pair = "both"\npairs = ["both"]'),
            ["[platforms.cpu]", "pair and pairs are given"],
        ),
        (
            (
                'pair = "both"',
                'pair = "both"\nheld = {pair = "no", workloads = "short"}',
            ),
            ["[platforms.cpu.held]", "pair names 'no'", "both"],
        ),
        (
            (
                'pair = "both"',
                'pair = "both"\nheld = {pair = "both", workloads = "x"}',
            ),
            ["[platforms.cpu.held]", "workloads names 'x'", "short"],
        ),
        (
            ('pair = "both"', "pairs = []"),
            ["[platforms.cpu]", "neither pair, pairs nor models", "pairs = ["],
        ),
        (
            ('dense = "dense"', 'dense = "dense"\nreference = "dense"'),
            ["[pairs.both]", "dense and reference say the same"],
        ),
        (
            ('dense = "dense"', 'dense = "sparse"'),
            ["[pairs.both]", "compared with itself", 'like = "sparse"'],
        ),
        (('dense = "dense"', ""), ["[pairs.both]", "reference"]),
        (
            ("max_model_len = 256", "tensor_parallel_size = 0"),
            ["[servers.cpu]", "tensor_parallel_size", "1"],
        ),
        (
            ('model_type = "mixtral"', 'model_type = "mxtral"'),
            ["[models.sparse]", "'mxtral'"],
        ),
        (
            ("[models.dense.config]", "[models.dense]"),
            ["[models.dense]", "unknown key 'model_type'"],
        ),
        (
            ("[servers.cpu]", "[servers.cpu]\n[servers.cpu]"),
            ["it is not TOML", "line"],
        ),
        (
            ("[platforms.cpu]", "[platforms.cp-u]"),
            ["[platforms.cp-u]", "marker"],
        ),
        (
            ("[platforms.cpu]", "[platforms._cpu]"),
            ["[platforms._cpu]", "a letter first"],
        ),
        (
            ("[platforms.cpu]", "[platforms.perf]"),
            ["[platforms.perf]", "choose another one"],
        ),
        (
            ("[platforms.cpu]", "[platforms.skip]"),
            ["[platforms.skip]", "choose another one"],
        ),
        (
            ("[models.dense.config]", '[models."a/dense".config]'),
            ["[models.a/dense]", "hub_id takes OWNER/NAME"],
        ),
        (
            ('engines = ["vllm"]', 'engines = "vllm"'),
            ["engines is 'vllm'", "write a list"],
        ),
        (
            ('engines = ["vllm"]', "schema = 9"),
            ["schema is 9", "write schema = 1"],
        ),
        (
            ('pair = "both"', 'pair = ["both"]'),
            ["platforms.cpu", "pair is ['both']", "in quotes"],
        ),
        (
            ('pair = "both"', "pair = 5"),
            ["platforms.cpu", "pair is 5", "in quotes"],
        ),
    ],
    ids=lambda value: value[1][:24] if isinstance(value, tuple) else "",
)
def test_mistakes_are_named(tmp_path, change, expected):
    """Each says file, table and key, and what there is instead."""
    message = refused(tmp_path, change)

    assert [] == [part for part in expected if part not in message], message


def test_a_claim_of_an_unknown_quantity_is_refused(tmp_path):
    """Its {placeholders} are names of the arithmetic; the nearest is suggested."""
    claim = '[[claims]]\npair = "both"\nclaim = "x"\nholds = true\narithmetic = "{shard_gb:.1f}"\n'

    assert "did you mean shared_gb?" in refused(tmp_path, text=TEXT + claim)


@pytest.mark.parametrize(
    "number",
    ["shared_gb:d", "shared_gb!x", "shared_gb:.1q", "shared_gb:{width}"],
)
def test_a_claim_in_no_format_of_numbers_is_refused(tmp_path, number):
    """As the file is read, and not by a traceback of `perfgate estimate`."""
    claim = (
        '[[claims]]\npair = "both"\nclaim = "x"\nholds = true\n'
        f'arithmetic = "{{{number}}}"\n'
    )

    assert "{name:.1f}" in refused(tmp_path, text=TEXT + claim)


def test_the_shipped_study_is_complete():
    """Every platform has both engines' studies; the three names assert what they say."""
    for platform in SHIPPED.platforms:
        for engine in SHIPPED.engines:
            assert platform == study_of(SHIPPED, platform, engine).platform
    asserted = {name: SHIPPED.gpu_of(name) for name in SHIPPED.platforms}
    expected = {
        "cpu": None,
        "gpu": None,
        "h200": "h200",
        "h100": "h100",
        "a100": "a100",
    }
    assert expected == asserted


def test_ceilings_of_a_study(tmp_path):
    """As on the command line; without them the policy decides."""
    line = 'fail_over = ["5 %", "ttft = 10 %"]\nengines ='

    assert {"all": 0.05, "ttft": 0.10} == read(
        tmp_path, ("engines =", line)
    ).fail_over
    assert {} == SHIPPED.fail_over


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"5 %"', ("fail_over is '5 %'", "write a list")),
        ("[5]", ("fail_over is [5]", "write a list")),
        ('["tftt = 10 %"]', ("fail_over", "'tftt'", "did you mean ttft?")),
        ('["5"]', ("fail_over", "500%", "write 5%")),
    ],
)
def test_bad_ceilings_are_named(tmp_path, value, words):
    """With file, key and remedy."""
    message = refused(
        tmp_path, ("engines =", f"fail_over = {value}\nengines =")
    )

    for word in words:
        assert word in message
