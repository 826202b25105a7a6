"""Plants: changes of vLLM that facts and counts must find, by the variable PERFGATE_PLANT.

Loaded by vLLM through its plugin interface (the entry point beside this file), in each
of its processes, where `--inject-env MODEL=PYTHONPATH=benchmarks/plants` names it.
"""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

VARIABLE = "PERFGATE_PLANT"
# Of the CPU time of a step: by how much a Python loop lengthens it.
LONGER = {"loop": 0.05, "thrice": 2.0}
# Of the parameters of a rank.
MORE_WEIGHTS = 0.02
# Whose router is changed.
LAYER = "layers.1."
GATE = ".gate.weight"
HEAD = "lm_head.weight"


def register() -> None:
    """Change what the variable names; nothing without it."""
    plant = plants().get(os.environ.get(VARIABLE, ""))
    if plant is not None:
        plant()


def plants() -> dict[str, Callable[[], None]]:
    """What PERFGATE_PLANT may name."""
    return {
        "operator": add_operator,
        "loop": lambda: lengthen_steps(LONGER["loop"]),
        "thrice": lambda: lengthen_steps(LONGER["thrice"]),
        "prefill": lambda: lengthen_some(has_long_prompt),
        "context": lambda: lengthen_some(has_context),
        "late-rank": delay_last_rank,
        "leak": keep_memory,
        "weights": add_weights,
        "router": lambda: change_weights(collapsed),
        "answer": lambda: change_weights(louder),
    }


def around_steps(step: Callable[..., Any]) -> None:
    """Have each step of each rank run by `step`, once in a process.

    Args:
        step: takes the engine's own function and its arguments.
    """
    for runner in model_runners():
        original = runner.execute_model
        if not hasattr(original, "perfgate_original"):
            runner.execute_model = stepping(original, step)


def stepping(
    original: Callable[..., Any], step: Callable[..., Any]
) -> Callable[..., Any]:
    """A method that has `step` do what the engine's own does."""

    def around(self: Any, *args: Any, **kwargs: Any) -> Any:
        return step(original, self, *args, **kwargs)

    around.perfgate_original = original
    return around


def model_runners() -> list[Any]:
    """The classes that run a model: vLLM has two on GPUs, and chooses by model."""
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    runners = [GPUModelRunner]
    with contextlib.suppress(ImportError):
        from vllm.v1.worker.gpu.model_runner import GPUModelRunner as Newer

        runners.append(Newer)
    return runners


def add_operator() -> None:
    """One small product more in each step."""
    import torch

    left, right = torch.rand(1, 8), torch.rand(8, 8)

    def with_product(original: Any, *args: Any, **kwargs: Any) -> Any:
        torch.mm(left, right)
        return original(*args, **kwargs)

    around_steps(with_product)


def lengthen_steps(share: float) -> None:
    """A Python loop after each step of a held engine: a share of the step's CPU time."""
    from vllm.v1.engine.llm_engine import LLMEngine

    original = LLMEngine.step
    if hasattr(original, "perfgate_original"):
        return

    def with_loop(self: Any) -> Any:
        began = time.thread_time()
        result = original(self)
        end = began + (1 + share) * (time.thread_time() - began)
        turns = 0
        while time.thread_time() < end:
            turns += 1
        return result

    with_loop.perfgate_original = original
    LLMEngine.step = with_loop


def has_long_prompt(scheduled: Any) -> bool:
    """Whether a step takes in a long prompt."""
    return max(scheduled.num_scheduled_tokens.values(), default=0) >= 400


def has_context(scheduled: Any) -> bool:
    """Whether a step decodes for a request whose answer is long by now."""
    lengths = scheduled.scheduled_cached_reqs.num_computed_tokens
    return any(80 <= length < 400 for length in lengths)


def lengthen_some(is_meant: Any) -> None:
    """Each rank takes three times as long for some steps."""

    def lengthened(
        original: Any, runner: Any, scheduled: Any, *args: Any, **kwargs: Any
    ) -> Any:
        began = time.perf_counter()
        result = original(runner, scheduled, *args, **kwargs)
        if is_meant(scheduled):
            work_until(began + 3 * (time.perf_counter() - began))
        return result

    around_steps(lengthened)


def delay_last_rank() -> None:
    """The last rank begins each step 5 ms later than the others."""
    from vllm.distributed import get_tp_group

    def late(original: Any, *args: Any, **kwargs: Any) -> Any:
        if get_tp_group().is_last_rank:
            work_until(time.perf_counter() + 0.005)
        return original(*args, **kwargs)

    around_steps(late)


def work_until(end: float) -> None:
    """Keep the core busy until then."""
    while time.perf_counter() < end:
        pass


def keep_memory() -> None:
    """Each step of each rank keeps 400 kB for ever."""
    kept = []

    def keeping(original: Any, *args: Any, **kwargs: Any) -> Any:
        kept.append(os.urandom(400_000))
        return original(*args, **kwargs)

    around_steps(keeping)


def add_weights() -> None:
    """Two percent more parameters on each rank, which nothing uses."""
    import torch

    for model in models():
        original = model.load_weights

        def with_more(self: Any, weights: Any, original: Any = original) -> Any:
            loaded = original(self, weights)
            count = sum(row.numel() for row in self.parameters())
            more = torch.zeros(int(MORE_WEIGHTS * count))
            self.perfgate_more = torch.nn.Parameter(more, requires_grad=False)
            # vLLM refuses parameters that no file filled.
            return {*loaded, "perfgate_more"}

        if not getattr(model, "perfgate_grown", False):
            model.load_weights = with_more
            model.perfgate_grown = True


def change_weights(change: Any) -> None:
    """Each tensor is changed as it is read."""
    for model in models():
        original = model.load_weights
        if getattr(model, "perfgate_changed", False):
            continue

        def changed(self: Any, weights: Any, original: Any = original) -> Any:
            rows = ((name, change(name, tensor)) for name, tensor in weights)
            return original(self, rows)

        model.load_weights = changed
        model.perfgate_changed = True


def collapsed(name: str, tensor: Any) -> Any:
    """Of one layer's router all rows alike, so that the same experts win each time."""
    if LAYER in name and name.endswith(GATE):
        return tensor[:1].expand_as(tensor).contiguous()
    return tensor


def louder(name: str, tensor: Any) -> Any:
    """A few tokens that the model prefers by half."""
    if name.endswith(HEAD):
        tensor = tensor.clone()
        tensor[3:16] *= 1.5
    return tensor


def models() -> list[Any]:
    """The classes of the study's models."""
    from vllm.model_executor.models.llama import LlamaForCausalLM
    from vllm.model_executor.models.mixtral import MixtralForCausalLM

    return [LlamaForCausalLM, MixtralForCausalLM]
