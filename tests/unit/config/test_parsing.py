"""Parsing: what options, environment variables and the project file come to together."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
from pathlib import Path

import msgspec
import pytest

from perfgate.config.config import Config
from perfgate.config.option_values import BadOption, name_value_pairs
from perfgate.config.options import add_options, options_with_value
from perfgate.config.parsing import config_from_pytest
from perfgate.config.project import Project
from perfgate.config.run_folder import refuse_occupied
from perfgate.engines import injection
from perfgate.engines.base import ServerConfig
from perfgate.locations import Locations
from perfgate.models import catalogue
from tests.support.studies import SHIPPED


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    """No variable of the caller's shell decides anything."""
    for name in ("PERFGATE_GATE", "PERFGATE_HISTORY", "PERFGATE_LEASES_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path):
    """A project in an empty folder."""
    folders = {
        name: tmp_path / name
        for name in ("engines", "models", "runs", "baselines")
    }
    return Project(Locations(root=tmp_path, **folders), SHIPPED)


def parse(project, *words, markers="", worker=None, **pytest_options):
    """The configuration of a command line."""
    parser = argparse.ArgumentParser()
    add_options(parser.add_argument)
    option = parser.parse_args(words)
    option.markexpr = markers
    option.collectonly = False
    option.verbose = 0
    for name, value in pytest_options.items():
        setattr(option, name, value)
    config = types.SimpleNamespace(
        option=option,
        invocation_params=types.SimpleNamespace(args=words),
        getini={}.__getitem__,
    )
    if worker is not None:
        config.workerinput = worker
    return config_from_pytest(config, project)


def test_defaults_are_those_of_a_config_made_by_hand(project):
    """A library user's `Config(run_dir, store)` differs only in what the project names."""
    parsed = parse(project)
    by_hand = Config(
        run_dir=parsed.run_dir, store=parsed.store, run_id=parsed.run_id
    )
    fields = {
        "engines": parsed.engines,
        "history": parsed.history,
        "runs": parsed.runs,
    }

    assert dataclasses.replace(by_hand, **fields) == parsed


def test_nothing_can_be_changed(project):
    """A configuration is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse(project).launches = 2


def test_a_new_folder_names_the_run(project, tmp_path):
    """Without --run-dir the run has its folder's name; a named folder does not name it."""
    parsed = parse(project)
    assert (project.locations.runs, parsed.run_id) == (
        parsed.run_dir.parent,
        parsed.run_dir.name,
    )

    named = parse(project, "--run-dir", str(tmp_path / "mine"))
    assert tmp_path / "mine" == named.run_dir
    assert "mine" != named.run_id


def test_a_worker_writes_where_its_controller_says(project):
    """Pytest-xdist carries the folder and the worker's name."""
    parsed = parse(
        project, worker={"perfgate_run_dir": "/r", "workerid": "gw1"}
    )

    assert (Path("/r"), "r", "gw1") == (
        parsed.run_dir,
        parsed.run_id,
        parsed.worker,
    )


def test_platforms_are_those_of_the_markers(project):
    """In the study's order, and every marker is kept; operators are no markers."""
    parsed = parse(project, markers="h200 and not slow or cpu")

    order = [name for name in SHIPPED.platforms if name in ("cpu", "h200")]
    assert (tuple(order), {"h200", "cpu", "slow"}) == (
        parsed.platforms,
        parsed.markers,
    )


@pytest.mark.parametrize(
    ("option", "variable", "expected"),
    [
        ((), "", "required"),
        ((), "advisory", "advisory"),
        (("--gate", "required"), "advisory", "required"),
        (("--gate", "strict"), "", "strict"),
    ],
)
def test_the_gate_by_option_variable_and_project(
    project, monkeypatch, option, variable, expected
):
    """The command line decides before the variable, and that before the project file."""
    monkeypatch.setenv("PERFGATE_GATE", variable)
    strict = dataclasses.replace(project, gate="required")

    parsed = parse(strict, *option, markers="cpu")

    assert expected == parsed.gate


def test_engines_are_named_or_the_studys(project):
    """--engine, else those with a base build, else the study's; only the first must be there."""
    base = f"sglang={sys.executable}"
    default = parse(project)
    compared = parse(project, "--against-engine", base)
    named = parse(project, "--engine", "vllm")

    assert (SHIPPED.engines, False) == (
        default.engines,
        default.engines_are_required,
    )
    assert (("sglang",), False) == (
        compared.engines,
        compared.engines_are_required,
    )
    assert (("vllm",), True) == (named.engines, named.engines_are_required)


def test_the_command_line_comes_before_the_project_file(project, tmp_path):
    """A Python and a folder that both name are the command line's."""
    pythons = {"vllm": "/nowhere", "sglang": sys.executable}
    folders = {"llama-small": "/nowhere"}
    project = dataclasses.replace(
        project, engine_python=pythons, model_dir=folders
    )
    python = ("--engine-python", f"vllm={sys.executable}")
    folder = ("--model-dir", f"llama-small={tmp_path}")

    parsed = parse(project, *python, *folder)

    assert {
        "vllm": sys.executable,
        "sglang": sys.executable,
    } == parsed.engine_pythons
    assert {"llama-small": str(tmp_path)} == parsed.model_dirs


def test_models_of_one_hub_id_have_one_folder(project, tmp_path):
    """Another precision of a model needs no second folder; its own one comes first."""
    models = dict(project.study.models)
    for name in ("half", "quarter"):
        base = models["mixtral-8x7b"]
        models[name] = msgspec.structs.replace(base, name=name)
    project = dataclasses.replace(
        project, study=dataclasses.replace(project.study, models=models)
    )
    catalogue.register(models.values())
    own = tmp_path / "own"
    own.mkdir()

    parsed = parse(
        project,
        *("--model-dir", f"mixtral-8x7b={tmp_path}"),
        *("--model-dir", f"quarter={own}"),
    )

    assert {
        "mixtral-8x7b": str(tmp_path),
        "half": str(tmp_path),
        "quarter": str(own),
    } == parsed.model_dirs


def test_injections_go_into_the_candidate_alone(project):
    """A base build is what it is compared with; other models are left as they are."""
    parsed = parse(
        project,
        "--inject-delay",
        "llama-small=5",
        "--plant-arg",
        "llama-small=--eager",
    )
    candidate = ServerConfig(
        engine="vllm", model="llama-small", dtype="float32", max_model_len=512
    )
    base = msgspec.structs.replace(candidate, build="base")
    other = msgspec.structs.replace(candidate, model="mixtral-small")

    recorded = parsed.recorded_injection(candidate)
    assert {"per_token_ms": 5.0, "arguments": "--eager"} == recorded
    for server in (base, other):
        assert injection.NOTHING == parsed.injection(server)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--inject-delay", "llama-small=5", "--attach", "vllm=http://h"],
            "leave --attach out",
        ),
        (
            ["--stated-routing", "few", "--attach", "vllm=http://h"],
            "leave --attach out",
        ),
        (
            ["--inject-env", "llama-small=A=1", "--baseline-record"],
            "leave --baseline-record out",
        ),
        (
            ["--against-engine", f"vllm={sys.executable}", "--baseline-record"],
            "leave --baseline-record out",
        ),
        (
            ["--against-engine", f"vllm={sys.executable}", "--launches", "2"],
            "--launches 3 or more",
        ),
        (
            [
                "--against-engine",
                f"vllm={sys.executable}",
                "--engine",
                "sglang",
            ],
            "no base build for sglang",
        ),
        (["--engine", "vlm"], "did you mean vllm?"),
        (["--lease-wait", "-1"], "the minimum is 0"),
    ],
)
def test_contradictions_are_refused_without_a_platform(project, words, message):
    """Whether or not anything would be measured."""
    with pytest.raises(BadOption) as caught:
        parse(project, *words)

    assert message in str(caught.value)


def test_workers_plan_nothing(project):
    """-n with --plan is refused."""
    with pytest.raises(BadOption, match="-n with --plan"):
        parse(project, "--plan", markers="h200", numprocesses=2)


def test_nothing_is_asked_of_a_server_while_collecting(project):
    """--attach names an address; only a session that measures, or plans, calls it."""
    url = "vllm=http://127.0.0.1:9"
    parsed = parse(project, "--attach", url, markers="cpu", collectonly=True)

    assert ({}, (url,)) == (parsed.attached, parsed.external_urls)
    assert not parsed.runs_tests


def test_an_occupied_folder_is_refused(tmp_path):
    """A run is resumed only with --resume, and a packed one must be unpacked for it."""
    refuse_occupied(tmp_path, resume=False)
    (tmp_path / "results.json.gz").touch()
    with pytest.raises(BadOption, match="gunzip"):
        refuse_occupied(tmp_path, resume=True)
    (tmp_path / "results.json").touch()
    with pytest.raises(BadOption, match="--resume"):
        refuse_occupied(tmp_path, resume=False)
    refuse_occupied(tmp_path, resume=True)


def test_pairs_keep_equals_signs_of_the_value():
    """NAME=VALUE is cut at the first; the last of a name counts."""
    assert {"a": "b=c", "d": "2"} == name_value_pairs(
        "--x", ["a=b=c", "d=1", "d=2"]
    )


@pytest.mark.parametrize(
    ("words", "engine", "device", "is_prepared"),
    [
        ((), "vllm", "cuda", True),
        ((), "sglang", "cuda", True),
        ((), "sglang", "cpu", False),
        ((), "vllm", "cpu", False),
        (("--prepare-next", "yes"), "vllm", "cpu", True),
        (("--prepare-next", "no"), "vllm", "cuda", False),
    ],
)
def test_the_next_server_is_prepared_where_that_was_measured(
    project, words, engine, device, is_prepared
):
    """Or as the option says."""
    server = ServerConfig(
        engine=engine, model="m", device=device, tensor_parallel_size=1
    )

    assert is_prepared is parse(project, *words).prepares(server)


def test_switches_take_no_value():
    """A path after a switch is a path to collect."""
    names = options_with_value()

    assert ("--run-dir" in names, "--resume" in names) == (True, False)


def with_base_build(project, **changes):
    """A project whose file names a base build of vLLM."""
    fields = {"against_engine": {"vllm": sys.executable}, "pairs": "suspect"}
    return dataclasses.replace(project, **fields | changes)


def test_base_build_and_pairs_of_the_project_file(project):
    """The command line overrides both; engines without a base build are judged too."""
    named = with_base_build(project)

    screened = parse(named)
    paired = parse(named, "--pairs", "all", "--against-engine", "vllm=/bin/sh")
    alone = parse(dataclasses.replace(project, pairs="suspect"))

    assert (True, False) == (screened.is_screened, screened.is_paired)
    assert parse(project).engines == screened.engines
    assert (False, True) == (paired.is_screened, paired.is_paired)
    assert ("vllm",) == paired.engines
    assert {"vllm": "/bin/sh"} == paired.base_builds
    assert (False, False) == (alone.is_screened, alone.is_paired)


def test_a_screened_run_may_record(project):
    """Its launches for the screen are launches as any others, and any number of them."""
    config = parse(
        with_base_build(project), "--baseline-record", "--launches", "2"
    )

    assert (True, 2) == (config.proposes_baselines, config.launches)


def test_an_external_server_leaves_the_projects_base_build_out(project):
    """Nobody here launches it in pairs; a base build on the command line is refused."""
    named = with_base_build(project)
    attach = ("--attach", "vllm=http://127.0.0.1:1")

    assert {} == parse(named, *attach).base_builds
    with pytest.raises(BadOption, match="cannot be launched in pairs"):
        parse(named, *attach, "--against-engine", f"vllm={sys.executable}")


def test_pairs_without_a_base_build_are_refused(project):
    """The message names the option that is missing."""
    with pytest.raises(BadOption, match="--against-engine ENGINE=PATH"):
        parse(project, "--pairs", "suspect")


def test_workers_do_not_launch_pairs_of_suspects(project):
    """A worker knows only its own suspects."""
    with pytest.raises(BadOption, match="leave -n out"):
        parse(with_base_build(project), markers="h200", numprocesses=2)


def test_only_the_base_is_without_an_injection(project):
    """A candidate in pairs is changed like the launch that was screened."""
    config = parse(project, "--inject-delay", "mixtral-8x7b=1")
    server = ServerConfig(engine="vllm", model="mixtral-8x7b")

    assert injection.NOTHING == config.injection(server.base)
    assert config.injection(server) == config.injection(server.candidate)
    assert injection.NOTHING != config.injection(server)


def test_ceilings_of_option_and_study(project):
    """The option decides before the study."""
    study = dataclasses.replace(SHIPPED, fail_over={"all": 0.05, "itl": 0.04})
    strict = dataclasses.replace(project, study=study)

    assert {} == parse(project).fail_over
    assert study.fail_over == parse(strict).fail_over
    assert {"all": 0.05, "itl": 0.03} == parse(
        strict, "--fail-over", "itl=3%"
    ).fail_over
    assert {"all": 0.03} == parse(strict, "--fail-over", "3 %").fail_over


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fail-over", "tpt=3%"), "did you mean tpot?"),
        (
            ("--fail-over", "3%", "--against-engine", f"vllm={sys.executable}"),
            "write --target-effect instead",
        ),
    ],
)
def test_bad_ceilings_are_refused(project, words, message):
    """What is misspelled, and what pairs do not use."""
    with pytest.raises(BadOption) as caught:
        parse(project, *words)

    assert message in str(caught.value)


def test_stated_routings_are_kept_in_order_and_once(project):
    """Each names a server."""
    words = ("few", "skewed", "few")
    options = [word for way in words for word in ("--stated-routing", way)]

    assert ("few", "skewed") == parse(project, *options).stated_routings
    assert () == parse(project).stated_routings


def test_deep_loads_are_those_that_a_platform_declares(project):
    """Each once; another name is refused with those that there are."""
    config = parse(project, "--deep", "prefix", "--deep", "prefix", "--soak=5")

    assert (("prefix",), 5.0) == (config.deep, config.soak_minutes)
    with pytest.raises(BadOption, match="did you mean saturation"):
        parse(project, "--deep", "saturaton")
    for minutes in ("-1", "inf", "nan"):
        with pytest.raises(BadOption, match="--soak"):
            parse(project, f"--soak={minutes}")


def test_a_path_may_begin_with_the_home_folder(project, tmp_path, monkeypatch):
    """A shell leaves the "~" of --baselines=~/store as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PERFGATE_LEASES_DIR", "~/leases")
    store, runs = tmp_path / "store", tmp_path / "runs"
    store.mkdir()

    config = parse(
        project,
        "--baselines=~/store",
        "--history=~/runs/history.sqlite3",
        markers="cpu",
    )

    assert store == config.store.root
    assert runs / "history.sqlite3" == config.history
    assert runs == config.runs
    assert tmp_path / "leases" == config.leases_dir
