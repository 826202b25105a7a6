"""Stated routing inside an engine: the table of draws, and who gets its rows."""

import importlib
import sys
import types
import zlib

import numpy as np
import pytest

from perfgate.engines import variables, vllm
from perfgate.models.stated_routing import STATED, chances

SHAPES = [(8, 2), (128, 8), (60, 4), (8, 1)]


@pytest.fixture
def inside(monkeypatch):
    """The module as an engine imports it; no server's routing is stated."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    module = importlib.import_module("perfgate_stated_routing")
    monkeypatch.setattr(module, "_drawers", [])
    monkeypatch.delenv(module.VARIABLE, raising=False)
    return module


class Array(np.ndarray):
    """As much of a tensor of torch's on the CPU as is asked of one."""

    is_cuda = False

    def numpy(self):
        """The array itself."""
        return self

    def to(self, dtype):
        """Converted."""
        return self.astype(dtype)


def array(rows, columns, dtype):
    """A tensor without values."""
    return np.full((rows, columns), 99, dtype).view(Array)


def fill(drawer, tokens):
    """Experts and weights of that many tokens of a layer."""
    ids = array(tokens, drawer.choices, np.int32)
    weights = array(tokens, drawer.choices, np.float32)
    drawer.fill(ids, weights)
    return ids, weights


@pytest.fixture
def torch(monkeypatch):
    """What the module takes from torch, made of numpy; operators run at once."""
    operators = types.SimpleNamespace()

    def custom_op(name, function, mutates_args, schema):
        setattr(operators, name.rpartition(":")[2], function)

    fake = types.SimpleNamespace(
        int32=np.int32,
        float32=np.float32,
        library=types.SimpleNamespace(custom_op=custom_op),
        ops=types.SimpleNamespace(perfgate=operators),
        empty=lambda shape, dtype, device: array(*shape, dtype),
        cat=lambda parts, dim: np.concatenate(parts, axis=dim),
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize(("experts", "top_k"), SHAPES)
def test_each_row_has_different_experts(inside, stated, experts, top_k):
    """As many as a token chooses, none twice."""
    table = inside.table(chances(stated, experts, top_k))

    assert (inside.ROWS, top_k) == table.shape
    assert table.min() >= 0
    assert table.max() < experts
    assert (np.diff(np.sort(table, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize(("experts", "top_k"), SHAPES)
def test_each_expert_is_in_as_many_rows_as_stated(
    inside, stated, experts, top_k
):
    """Within six standard deviations of a binomial count, and just so where it is certain."""
    expected = np.array(chances(stated, experts, top_k))
    counts = np.bincount(
        inside.table(expected.tolist()).ravel(), minlength=experts
    )
    deviations = np.sqrt(inside.ROWS * expected * (1 - expected))

    assert (abs(counts - inside.ROWS * expected) <= 6 * deviations + 0.5).all()


def test_even_draws_pair_every_expert_with_every_other(inside):
    """Experts of a token are independent but for being different: no pair is preferred."""
    table = np.sort(inside.table([0.25] * 8), axis=1)
    _, counts = np.unique(table, axis=0, return_counts=True)
    expected = inside.ROWS / 28

    assert 28 == len(counts)
    assert (abs(counts - expected) <= 6 * np.sqrt(expected)).all()


def test_the_table_is_the_same_in_every_process(inside):
    """Ranks, launches and engines get the same rows: these."""
    table = inside.table([0.25] * 8)

    assert [[6, 5], [1, 5], [2, 3], [2, 1]] == table[:4].tolist()
    assert 3160287751 == zlib.crc32(table.tobytes())


def test_every_token_of_every_layer_takes_the_next_row(inside):
    """The rows follow each other over layers and steps, and start again at the end."""
    drawer = inside.Drawer([0.25] * 8)
    table = inside.table([0.25] * 8)
    first, weights = fill(drawer, 3)
    second, _ = fill(drawer, 2)
    rest, _ = fill(drawer, inside.ROWS)

    assert table[:5].tolist() == [*first.tolist(), *second.tolist()]
    assert table[5:].tolist() == rest[: inside.ROWS - 5].tolist()
    assert table[:5].tolist() == rest[inside.ROWS - 5 :].tolist()
    assert 5 + inside.ROWS == drawer.drawn
    assert {0.5} == set(weights.ravel().tolist())


def test_a_server_reads_what_the_suite_states(inside, monkeypatch):
    """The variable has one name on both sides, and carries every chance."""
    expected = chances("skewed", 8, 2)
    for name, value in variables.stated_chances(expected).items():
        monkeypatch.setenv(name, value)

    assert inside.is_stated()
    assert pytest.approx(expected) == inside.read_chances(
        inside.os.environ[inside.VARIABLE]
    )


def test_a_server_of_which_nothing_is_stated_routes_by_itself(inside):
    """An empty statement sets no variable."""
    assert {} == variables.stated_chances(())
    assert not inside.is_stated()


def test_vllm_gets_weights_and_experts(inside, torch, monkeypatch):
    """In the order and types that its routers return them; every launch starts alike."""
    monkeypatch.setenv(inside.VARIABLE, "1,1,0,0")
    strategies = {}
    router = types.ModuleType("routing_simulator_router")
    router.RoutingSimulator = types.SimpleNamespace(
        register_strategy=strategies.__setitem__
    )
    package = "vllm.model_executor.layers.fused_moe.router"
    monkeypatch.setitem(
        sys.modules, f"{package}.routing_simulator_router", router
    )
    for depth in range(1, 6):
        name = ".".join(package.split(".")[:depth])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    inside.register_with_vllm()
    tokens = types.SimpleNamespace(shape=(3, 64), device="cpu")
    weights, ids = strategies["perfgate"].route_tokens(
        hidden_states=tokens, router_logits=np.zeros((3, 4)), top_k=2
    )

    assert [{0, 1}] * 3 == [set(row) for row in ids.tolist()]
    assert (np.int32, np.float32) == (ids.dtype, weights.dtype)
    assert 3 == inside.drawer().drawn


@pytest.mark.parametrize("shared", [[], [4]])
def test_sglang_gets_other_experts_than_its_router_chose(
    inside, torch, monkeypatch, shared
):
    """Shared experts in further columns stay as they are."""
    monkeypatch.setenv(inside.VARIABLE, "0,0,1,1")
    chosen = np.array([[0, 1, *shared], [1, 0, *shared]], np.int32)
    by_router = np.array([[0.9, 0.1, *[1.0 for _ in shared]]] * 2)

    _, stated = inside.state_experts(
        topk_ids=chosen.view(Array),
        topk_weights=by_router.view(Array),
        router_logits=np.zeros((2, 4)),
        layer_id=7,
    )

    assert [{2, 3}] * 2 == [set(row[:2]) for row in stated["topk_ids"]]
    assert [shared] * 2 == stated["topk_ids"][:, 2:].tolist()
    assert [[0.5, 0.5, *by_router[0, 2:]]] * 2 == (
        stated["topk_weights"].tolist()
    )
    assert 7 == stated["layer_id"]


def test_a_router_of_another_size_is_refused(inside, torch):
    """Chances of another model would name experts that do not exist."""
    drawer = inside.Drawer([0.25] * 8)

    with pytest.raises(ValueError, match=r"60 experts, .* stated for 8"):
        drawer.draw(1, 60, np.int32, "cpu")
