"""SGLang held in one process: requests and steps of a scheduler that is faked."""

import importlib
import types

import pytest

from perfgate.engines import vllm


class Request:
    """A request that has ended once it has its tokens."""

    def __init__(self, prompt, tokens):
        self.output_ids = []
        self.prompt = prompt
        self.tokens = tokens

    def finished(self):
        """Whether it has all of its tokens."""
        return len(self.output_ids) == self.tokens


class Scheduler:
    """A scheduler as far as it is used: all that wait run in one batch."""

    def __init__(self):
        self.waiting_queue = []
        self.running_batch = []
        self.last_batch = None

    def process_input_requests(self, requests):
        """Queue them."""
        self.waiting_queue += requests

    def get_next_batch_to_run(self, running_batch, last_batch):
        """Everything that is unfinished; nothing where all is."""
        batch = [*running_batch, *self.waiting_queue]
        batch = [request for request in batch if not request.finished()]
        self.waiting_queue = []
        return types.SimpleNamespace(running_batch=batch, batch_to_run=batch)

    def run_batch(self, batch):
        """The next token of each."""
        return [request.prompt[len(request.output_ids)] for request in batch]

    def process_batch_result(self, batch, result):
        """Give each its token."""
        for request, token in zip(batch, result, strict=True):
            request.output_ids.append(token)


@pytest.fixture
def held(monkeypatch):
    """The held engine, and the scheduler that it holds."""
    monkeypatch.syspath_prepend(str(vllm.INSIDE))
    module = importlib.import_module("perfgate_held_sglang")
    scheduler = Scheduler()

    def request_of(_number, prompt, tokens):
        return Request(list(prompt), tokens)

    return module.HeldSglang(scheduler, request_of), scheduler


def test_answers_come_in_the_order_of_their_requests(held):
    """The second ends first; both are returned, and once."""
    engine, _ = held
    engine.add([1, 2, 3], 3)
    engine.add([4, 5], 1)

    engine.step()
    assert 1 == engine.unfinished()
    engine.step()
    engine.step()

    assert 0 == engine.unfinished()
    assert [[1, 2, 3], [4]] == engine.take()
    assert [] == engine.take()


def test_a_step_without_work_does_nothing(held):
    """As in the scheduler's own loop; the last batch is none then."""
    engine, scheduler = held
    engine.step()

    assert not scheduler.last_batch


def test_a_delay_is_that_of_the_servers(held):
    """The same attribute of the scheduler that the suite's plugin reads before each step."""
    engine, scheduler = held
    engine.delay(0.5)

    assert 0.5 == scheduler.perfgate_delay_ms
    scheduler.perfgate_wait(0.001)
