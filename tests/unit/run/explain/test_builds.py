"""Builds: the candidate, and what it is compared with."""

from perfgate.config.config import Config
from perfgate.engines.base import ServerConfig
from perfgate.engines.injection import Injection
from perfgate.judge.baseline_store import Store
from perfgate.run.explain.builds import base_of, candidate_of

CONFIG = ServerConfig(engine="vllm", model="a")
SLOWED = {"a": Injection(per_token_ms=1.0)}


def settings(tmp_path, **more):
    """A session's configuration."""
    return Config(run_dir=tmp_path, store=Store(tmp_path), **more)


def test_base_build_is_the_base(tmp_path):
    """Also of a candidate with an injection."""
    here = settings(tmp_path, base_builds={"vllm": "/base"}, injections=SLOWED)

    base, candidate = base_of(here, CONFIG), candidate_of(here, CONFIG)

    assert "base" == base.config.build
    assert "the base build" == base.name
    assert ("vllm-a-tp1-base", "vllm-a-tp1-candidate") == (
        base.folder,
        candidate.folder,
    )
    assert SLOWED["a"] == here.injection(candidate.config)


def test_server_without_its_injection_is_the_base(tmp_path):
    """The same Python on both sides."""
    here = settings(tmp_path, injections=SLOWED)

    base = base_of(here, CONFIG)

    assert CONFIG == base.config
    assert None is base.settings.injection(CONFIG).per_token_ms
    assert "the server without the injection" == base.name


def test_nothing_else_is_a_base(tmp_path):
    """A baseline is no server, and an injection into another model changes none here."""
    assert None is base_of(settings(tmp_path), CONFIG)
    other = settings(tmp_path, injections={"b": SLOWED["a"]})
    assert None is base_of(other, CONFIG)
