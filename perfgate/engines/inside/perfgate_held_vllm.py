"""vLLM held in one process: its LLMEngine with the uniprocess executor, step by step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any


class HeldVllm:
    """Requests and steps of an LLMEngine.

    Args:
        engine: the LLMEngine.
        greedy: makes the sampling parameters of an answer of so many tokens.
    """

    def __init__(self, engine: Any, greedy: Callable[[int], Any]) -> None:
        self._engine = engine
        self._greedy = greedy
        self._number = 0
        self._unfinished = 0
        self._answers: dict[int, list[int]] = {}

    def add(self, prompt: Sequence[int], output_len_tokens: int) -> None:
        """Take a request with greedy sampling, which is not answered yet."""
        self._number += 1
        self._unfinished += 1
        self._engine.add_request(
            str(self._number),
            {"prompt_token_ids": list(prompt)},
            self._greedy(output_len_tokens),
        )

    def step(self) -> None:
        """Do one step of everything that is unfinished."""
        for output in self._engine.step():
            if output.finished:
                # Newer releases append a random part to the id.
                number = int(output.request_id.partition("-")[0])
                self._answers[number] = list(output.outputs[0].token_ids)
                self._unfinished -= 1

    def unfinished(self) -> int:
        """How many requests are unfinished."""
        return self._unfinished

    def take(self) -> list[list[int]]:
        """Token ids of the finished answers in the order of their requests; drops them."""
        answers = [self._answers[number] for number in sorted(self._answers)]
        self._answers.clear()
        return answers

    def delay(self, per_token_ms: float) -> None:
        """Delay each step for each sequence in it, by the suite's worker extension."""
        self._engine.collective_rpc(
            "perfgate_inject_delay", args=(str(per_token_ms),)
        )


def start(arguments: Sequence[str]) -> HeldVllm:
    """The engine with these arguments of vLLM's server."""
    # Before vLLM is imported: a process of its own for the engine is the default.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import torch
    from vllm import SamplingParams
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # where older releases have it
        from vllm.utils import FlexibleArgumentParser

    torch.set_num_threads(1)
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser())
    chosen = EngineArgs.from_cli_args(parser.parse_args(list(arguments)))
    chosen.distributed_executor_backend = "uni"
    chosen.disable_log_stats = True

    def greedy(tokens: int) -> Any:
        return SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)

    return HeldVllm(LLMEngine.from_engine_args(chosen), greedy)
