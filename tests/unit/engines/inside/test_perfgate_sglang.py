"""The plugin inside SGLang: platform, weights of each rank, delays."""

import importlib
import sys
import types
from pathlib import Path

import pytest

from perfgate.engines import sglang, vllm


@pytest.fixture
def plugin(monkeypatch):
    """The module as SGLang imports it, by its PYTHONPATH."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    return importlib.import_module("perfgate_sglang")


def request(**settings):
    """What is posted to /set_internal_state."""
    return types.SimpleNamespace(server_args=settings)


@pytest.mark.parametrize(
    ("value", "platform"),
    [("1", "perfgate_sglang_cpu:PlainCpu"), ("0", None), (None, None)],
)
def test_only_a_cpu_server_gets_another_platform(
    plugin, monkeypatch, value, platform
):
    """On a GPU the engine finds its own."""
    monkeypatch.delenv(plugin.PLAIN_CPU, raising=False)
    if value is not None:
        monkeypatch.setenv(plugin.PLAIN_CPU, value)

    assert platform == plugin.activate()


def test_a_delay_is_taken_out_of_the_settings(plugin, monkeypatch):
    """The engine knows no such setting; it gets the others."""
    waits = []

    def waiter(device, stream):
        return lambda ms: waits.append((device, stream, ms))

    monkeypatch.setattr(plugin, "waiter", waiter)
    scheduler = types.SimpleNamespace(device="cpu")
    asked = request(perfgate_delay_ms=2.0, max_running=3)

    answer = plugin.take_delay(
        lambda engine, rest: dict(rest.server_args), scheduler, asked
    )
    plugin.wait(scheduler, types.SimpleNamespace(reqs=[1, 2, 3]))

    assert {"max_running": 3} == answer
    assert [("cpu", None, 6.0)] == waits


def test_with_the_overlap_scheduler_the_delay_is_in_its_stream(
    plugin, monkeypatch
):
    """A step is queued there behind the one before it."""
    chosen = []
    monkeypatch.setattr(plugin, "waiter", lambda *where: chosen.append(where))
    scheduler = types.SimpleNamespace(
        device="cuda:1", enable_overlap=True, forward_stream="stream"
    )

    plugin.take_delay(
        lambda engine, rest: None, scheduler, request(perfgate_delay_ms=1.0)
    )

    assert [("cuda", "stream")] == chosen


def test_without_a_delay_nothing_waits(plugin):
    """A measured server is not changed."""
    scheduler = types.SimpleNamespace()

    plugin.take_delay(lambda engine, rest: None, scheduler, request())
    plugin.wait(scheduler, types.SimpleNamespace(reqs=[1]))

    assert {} == vars(scheduler)


def test_a_shared_tensor_counts_once(plugin):
    """Tied embeddings are one tensor; an empty one has no bytes."""

    def tensor(address, count):
        return types.SimpleNamespace(
            numel=lambda: count,
            element_size=lambda: 2,
            data_ptr=lambda: address,
        )

    tensors = [tensor(1, 100), tensor(1, 100), tensor(2, 50), tensor(0, 0)]
    model = types.SimpleNamespace(parameters=lambda: tensors)
    runner = types.SimpleNamespace(model=model)
    scheduler = types.SimpleNamespace(
        tp_worker=types.SimpleNamespace(model_runner=runner)
    )

    assert 300.0 == plugin.weights_bytes(scheduler)


def test_the_suite_and_the_plugin_agree_on_names(plugin):
    """Both sides write them down: the plugin imports nothing of the suite."""
    source = Path(sglang.__file__).read_text()

    for name in (plugin.PLAIN_CPU, plugin.DELAY, plugin.DRAWS, plugin.REPORT):
        assert f'"{name}"' in source


@pytest.mark.parametrize("stated", ["", "0.5,0.5"])
def test_experts_are_stated_where_the_suite_says_so(
    plugin, monkeypatch, stated
):
    """A server of which nothing is stated keeps what its routers chose."""
    registered = []
    registry = types.ModuleType("hook_registry")
    registry.HookType = types.SimpleNamespace(
        AFTER="after", AROUND="around", BEFORE="before"
    )
    registry.HookRegistry = types.SimpleNamespace(
        register=lambda target, hook, kind: registered.append((target, kind))
    )
    for name in ("sglang", "sglang.srt", "sglang.srt.plugins"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(
        sys.modules, "sglang.srt.plugins.hook_registry", registry
    )
    monkeypatch.setenv("PERFGATE_STATED_ROUTING", stated)
    kept = []
    monkeypatch.setattr(
        plugin.perfgate_local_store, "keep_local", lambda: kept.append(1)
    )

    plugin.register_hooks()

    assert [1] == kept
    assert bool(stated) == ((plugin.CHOSEN, "before") in registered)
