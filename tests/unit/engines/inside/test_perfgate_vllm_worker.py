"""Extension of vLLM's workers: weight counts, delayed steps, hooked routers."""

import importlib
import sys
import types

import numpy as np
import pytest

from perfgate.engines import vllm
from perfgate.engines.base import ServerConfig
from tests.support.plans import options, request_for

CPU = ServerConfig(
    engine="vllm",
    model="mixtral-small",
    tensor_parallel_size=2,
    max_model_len=1024,
    dtype="float32",
)


@pytest.fixture
def worker(monkeypatch):
    """The worker as vLLM finds it: by the name on the command line, in the folder on PYTHONPATH."""
    launch = vllm.plan(request_for(CPU))
    module, _, name = options(launch.argv)["--worker-extension-cls"].partition(
        "."
    )
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    return getattr(importlib.import_module(module), name)()


class Parameter:
    """A tensor's size and place; float32."""

    def __init__(self, count, place):
        self._count, self._place = count, place

    def numel(self):
        """Elements."""
        return self._count

    def element_size(self):
        """Bytes of an element."""
        return 4

    def data_ptr(self):
        """Where it lies; parameters that share memory lie in the same place."""
        return self._place


class Module(types.SimpleNamespace):
    """A layer with parameters of its own."""

    def parameters(self, recurse):
        """Its own parameters; those of its children are theirs."""
        assert recurse is False
        return self.own


def with_modules(worker, *modules):
    """The worker with a model of these layers."""
    model = types.SimpleNamespace(modules=lambda: modules)
    worker.model_runner = types.SimpleNamespace(get_model=lambda: model)
    return worker


def test_shared_weights_count_once(worker):
    """An embedding that is the output head too is held once."""
    embedding = Module(own=[Parameter(100, place=1)])
    head = Module(own=[Parameter(100, place=1)])
    norm = Module(own=[Parameter(10, place=2)])

    # (100 + 10) x 4 bytes
    assert {"weights_bytes": 440.0} == with_modules(
        worker, embedding, head, norm
    ).perfgate_weights()


def test_wrapped_experts_count_with_their_scales(worker):
    """Triton's kernels wrap matrices; they are no parameters, and their configs share scales."""
    matrix = types.SimpleNamespace(
        storage=types.SimpleNamespace(data=Parameter(100, place=1))
    )
    scale = types.SimpleNamespace(
        storage=types.SimpleNamespace(data=Parameter(10, place=2))
    )
    precision = types.SimpleNamespace(weight_scale=scale)
    method = types.SimpleNamespace(first=precision, again=precision)
    experts = Module(
        own=[Parameter(1, place=3)], w13_weight=matrix, quant_method=method
    )

    # (100 + 10 + 1) x 4 bytes
    assert {"weights_bytes": 444.0} == with_modules(
        worker, experts
    ).perfgate_weights()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (
            {
                "output_size_per_partition": 8,
                "output_size": 16,
                "input_size_per_partition": 4,
                "input_size": 4,
            },
            8 * 4,
        ),
        (
            {"output_size": 16, "input_size_per_partition": 2, "input_size": 4},
            16 * 2,
        ),  # split by columns
        (
            {"output_size": 16, "input_size": 4},
            16 * 4,
        ),  # held whole by every rank: a router
        ({}, 0),  # an empty parameter of a layer that is no matrix
    ],
)
def test_packed_matrix_counts_with_its_share(worker, sizes, expected):
    """A matrix that the CPU packed leaves an empty parameter; it counts with this rank's shape."""
    packed = Module(own=[Parameter(0, place=0)], **sizes)

    assert {"weights_bytes": 4.0 * expected} == with_modules(
        worker, packed
    ).perfgate_weights()


def test_injected_delay_grows_with_the_batch(worker, monkeypatch):
    """Each step waits once for each sequence in it, then runs as before with the same arguments."""
    waits, steps = [], []
    monkeypatch.setattr("time.sleep", waits.append)
    worker.model_runner = types.SimpleNamespace(
        execute_model=lambda *args, **kwargs: steps.append((args, kwargs))
    )
    batch = types.SimpleNamespace(num_scheduled_tokens={"a": 1, "b": 1, "c": 1})

    assert {"per_token_ms": 2.0} == worker.perfgate_inject_delay("2.0")
    worker.model_runner.execute_model(batch, None, more=1)

    # 3 sequences x 2 ms
    assert [0.006] == waits
    assert [((batch, None), {"more": 1})] == steps


def test_second_delay_replaces_the_first(worker, monkeypatch):
    """A delay of 0 ends an earlier one."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    worker.model_runner = types.SimpleNamespace(
        execute_model=lambda *args: None
    )
    for delay in ("2.0", "0.0"):
        worker.perfgate_inject_delay(delay)

    worker.model_runner.execute_model(
        types.SimpleNamespace(num_scheduled_tokens={"a": 1})
    )

    assert [0.0] == waits


class Tensor(np.ndarray):
    """As much of a tensor of torch's as is asked of one."""

    def to(self, kind):
        """Converted."""
        return self.astype(kind).view(Tensor)

    def numpy(self):
        """As an array."""
        return np.asarray(self)


class Router(types.SimpleNamespace):
    """A router module: takes hooks, and puts out logits."""

    def register_forward_hook(self, hook):
        """Kept until it is removed."""
        self.hooks = [*getattr(self, "hooks", []), hook]
        return types.SimpleNamespace(remove=lambda: self.hooks.remove(hook))


def with_routers(worker, model_type, **modules):
    """The worker with a model of these modules, by name."""
    model = types.SimpleNamespace(named_modules=lambda: modules.items())
    config = types.SimpleNamespace(
        hf_text_config=types.SimpleNamespace(
            model_type=model_type, num_experts_per_tok=2
        )
    )
    worker.model_runner = types.SimpleNamespace(
        get_model=lambda: model, model_config=config
    )
    return worker


def test_every_router_is_hooked_once(worker):
    """Routers of each family's name, each hooked once; a dense gate projection is none."""
    routers = {
        "model.layers.0.block_sparse_moe.gate": Router(),
        "model.layers.1.mlp.gate": Router(),
        "model.layers.2.mlp.router": Router(),
    }
    others = {
        "model.layers.2.mlp.gate_proj": Router(),
        "model.layers.1.mlp.shared_expert_gate": Router(),
    }
    found = with_routers(worker, "mixtral", **routers, **others)

    assert [{"layers": 3.0}] * 2 == [
        found.perfgate_routing_begin() for _ in range(2)
    ]
    assert [1, 1, 1] == [len(router.hooks) for router in routers.values()]
    assert [False, False] == [
        hasattr(other, "hooks") for other in others.values()
    ]


def test_routers_run_without_hooks_before_and_after(worker, monkeypatch):
    """A server that is asked where its tokens go may have been timed, or be timed again."""
    router = Router(hooks=[])
    found = with_routers(
        worker, "mixtral", **{"model.layers.0.block_sparse_moe.gate": router}
    )
    choices = np.zeros((3, 1, 2), np.int32).view(Tensor)
    torch = types.SimpleNamespace(
        cat=lambda parts: parts,
        stack=lambda layers, dim: choices,
        int32=np.int32,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)

    found.perfgate_routing_begin()
    assert 1 == len(router.hooks)
    assert [3, 1, 2] == found.perfgate_routing_take()["shape"]

    assert [] == router.hooks


def test_other_ways_of_choosing_are_refused(worker):
    """A family that chooses in groups, or with corrections, is not read as if it did not."""
    with pytest.raises(ValueError, match="deepseek_v3"):
        with_routers(worker, "deepseek_v3").perfgate_routing_begin()

    grouped = with_routers(worker, "deepseek_v2")
    config = grouped.model_runner.model_config.hf_text_config
    config.n_group = 1
    assert {"layers": 0.0} == grouped.perfgate_routing_begin()
    config.n_group = 8
    with pytest.raises(ValueError, match=r"in 8 group\(s\)"):
        grouped.perfgate_routing_begin()


def test_choices_that_are_not_logged(worker):
    """Largest batch, block and attention; what this release lacks is left out."""
    backend = types.SimpleNamespace(get_name=lambda: "FLASH_ATTN")
    layers = {
        "one": types.SimpleNamespace(attn_backend=backend),
        "two": types.SimpleNamespace(attn_backend=backend),
        "experts": types.SimpleNamespace(),
    }
    config = types.SimpleNamespace(
        scheduler_config=types.SimpleNamespace(max_num_seqs=256),
        cache_config=types.SimpleNamespace(),
        compilation_config=types.SimpleNamespace(static_forward_context=layers),
    )
    worker.model_runner = types.SimpleNamespace(vllm_config=config)

    assert {
        "max_num_seqs": "256",
        "attention_backend": "FLASH_ATTN",
    } == worker.perfgate_choices()


class Choosing(types.SimpleNamespace):
    """A router of vLLM that tells which experts it takes."""

    def set_capture_fn(self, function):
        """Called with the experts of each step from now on."""
        self.capture = function


def test_where_experts_are_stated_vllm_says_what_it_takes(worker, monkeypatch):
    """A router's outputs say nothing there; its capture ends when the experts are taken."""
    monkeypatch.setenv("PERFGATE_STATED_ROUTING", "0.5,0.5,0.5,0.5")
    routers = [Choosing(), Choosing()]
    layers = [types.SimpleNamespace(router=router) for router in routers]
    found = with_modules(worker, types.SimpleNamespace(), *layers)
    torch = types.SimpleNamespace(
        cat=lambda parts: np.concatenate(parts),
        stack=lambda parts, dim: np.stack(parts, axis=dim).view(Tensor),
        int32=np.int32,
    )
    monkeypatch.setitem(sys.modules, "torch", torch)

    assert {"layers": 2.0} == found.perfgate_routing_begin()
    for step in ([[0, 1], [2, 3]], [[1, 0]]):
        for router in routers:
            experts = np.array(step)
            router.capture(types.SimpleNamespace(cpu=lambda it=experts: it))
    taken = found.perfgate_routing_take()

    assert [3, 2, 2] == taken["shape"]
    assert [None, None] == [router.capture for router in routers]


def test_a_server_of_which_nothing_is_stated_has_drawn_nothing(worker):
    """The suite asks before it trusts a launch."""
    assert {"draws": 0.0} == worker.perfgate_stated_draws()
