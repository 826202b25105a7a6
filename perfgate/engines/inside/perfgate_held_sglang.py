"""SGLang held in one process: its Scheduler without the processes around it, step by step.

The tokenizer's and the detokenizer's processes are left out. Requests are handed to the
scheduler as token ids, and the tokens are read off its requests.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from perfgate_delay import waiter
from perfgate_sglang import DELAY


def dropped(*_of_output: Any) -> None:
    """In place of the detokenizer's process: tokens are read off the requests."""


class HeldSglang:
    """Requests and steps of a Scheduler.

    Args:
        scheduler: SGLang's, of one rank.
        request_of: makes its request of number, prompt and tokens of the answer.
    """

    def __init__(
        self, scheduler: Any, request_of: Callable[[str, Any, int], Any]
    ) -> None:
        self._scheduler = scheduler
        self._request_of = request_of
        self._number = 0
        self._requests: list[Any] = []

    def add(self, prompt: Sequence[int], output_len_tokens: int) -> None:
        """Take a request with greedy sampling, which is not answered yet."""
        self._number += 1
        request = self._request_of(
            str(self._number), array("q", prompt), output_len_tokens
        )
        self._scheduler.process_input_requests([request])
        self._requests.append(self._scheduler.waiting_queue[-1])

    def step(self) -> None:
        """Do one step of everything that is unfinished, as the scheduler's own loop does."""
        scheduler = self._scheduler
        plan = scheduler.get_next_batch_to_run(
            running_batch=scheduler.running_batch,
            last_batch=scheduler.last_batch,
        )
        scheduler.running_batch = plan.running_batch
        batch = plan.batch_to_run
        if batch:
            result = scheduler.run_batch(batch)
            scheduler.process_batch_result(batch, result)
        scheduler.last_batch = batch

    def unfinished(self) -> int:
        """How many requests are unfinished."""
        return sum(not request.finished() for request in self._requests)

    def take(self) -> list[list[int]]:
        """Token ids of the finished answers in the order of their requests; drops them."""
        answers = [list(request.output_ids) for request in self._requests]
        self._requests.clear()
        return answers

    def delay(self, per_token_ms: float) -> None:
        """Delay each step for each sequence in it, by the suite's plugin."""
        setattr(self._scheduler, DELAY, per_token_ms)
        self._scheduler.perfgate_wait = waiter("cpu")


def start(arguments: Sequence[str]) -> HeldSglang:
    """The scheduler with these arguments of SGLang's server."""
    import torch
    from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
    from sglang.srt.managers.scheduler import (
        Scheduler,
        configure_scheduler_process,
    )
    from sglang.srt.plugins import load_plugins
    from sglang.srt.runtime_context import SpawnRanks, publish
    from sglang.srt.sampling.sampling_params import SamplingParams
    from sglang.srt.server_args import PortArgs, prepare_server_args

    torch.set_num_threads(1)
    load_plugins()
    chosen = prepare_server_args(list(arguments))
    publish(chosen, role="scheduler", ranks=SpawnRanks(world_rank=0, gpu_id=0))
    configure_scheduler_process(chosen, gpu_id=0)
    ports = PortArgs.init_new(chosen)
    scheduler = Scheduler(chosen, ports)
    scheduler.ipc_channels.send_to_detokenizer.send_output = dropped

    def request_of(number: str, prompt: Any, tokens: int) -> Any:
        sampling = SamplingParams(
            temperature=0, max_new_tokens=tokens, ignore_eos=True
        )
        sampling.normalize(None)
        return TokenizedGenerateReqInput(
            rid=number,
            input_text=None,
            input_ids=prompt,
            input_embeds=None,
            mm_inputs=None,
            token_type_ids=None,
            sampling_params=sampling,
            return_logprob=False,
            logprob_start_len=-1,
            top_logprobs_num=0,
            token_ids_logprob=None,
            stream=False,
        )

    return HeldSglang(scheduler, request_of)
