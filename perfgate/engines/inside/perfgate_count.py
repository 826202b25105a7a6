"""Counts of an engine's work: calls of Python and C functions, torch operators, new bytes.

Counts repeat exactly from process to process where times do not. Loaded by the engines,
never by the suite.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

Answered = dict[str, Any]
# Engines do some things by the clock, such as a line of their log: the batch with the
# fewest calls had none of them.
BATCHES = 3


class Calls:
    """Calls of Python functions and of C functions of this thread, while entered."""

    def __init__(self) -> None:
        self.python = 0
        self.c = 0

    def __enter__(self) -> Calls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_of_exception: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1


class Operators:
    """What torch was asked to do.

    Attributes:
        counts: operator -> how often it was called.
        new_bytes: of the tensors that operators returned; a view is none.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.new_bytes = 0

    def note(self, operator: Any, result: Any, tensor: type) -> None:
        """Count a call of an operator, and what it returned."""
        self.counts[str(operator)] += 1
        if getattr(operator, "is_view", False):
            return
        results = (result,)
        if isinstance(result, tuple | list):
            results = tuple(result)
        for item in results:
            if isinstance(item, tensor):
                value: Any = item
                self.new_bytes += value.numel() * value.element_size()


def operators() -> Any:
    """A context in which every operator of torch is counted; gives `Operators`."""
    import torch  # in the engine's environment alone
    from torch.utils._python_dispatch import TorchDispatchMode

    # torch is not installed where mypy runs.
    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.noted = Operators()

        def __enter__(self) -> Operators:
            super().__enter__()
            return self.noted

        def __torch_dispatch__(
            self, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = operator(*args, **(kwargs or {}))
            self.noted.note(operator, result, torch.Tensor)
            return result

    return Counting()


def counted(
    answer: Callable[[], Answered],
    counting_operators: Callable[[], Any] = operators,
) -> Answered:
    """What a batch took: the fewest calls of several times, and the operators of another.

    The first one does what is done once, and is not counted. The garbage collector would
    run the finalisers of earlier batches at times of its own.

    Args:
        answer: answers the batch; returns its steps, tokens and answers.
    """
    answer()
    all_calls = []
    answers = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(BATCHES):
            with Calls() as calls:
                answered = answer()
            all_calls.append(calls)
            answers.append(answered["answers"])
        with counting_operators() as noted:
            answers.append(answer()["answers"])
    finally:
        gc.enable()
    return {
        "python_calls": min(calls.python for calls in all_calls),
        "c_calls": min(calls.c for calls in all_calls),
        "operators": dict(noted.counts),
        "new_tensor_bytes": noted.new_bytes,
        "steps": answered["steps"],
        "tokens": answered["tokens"],
        "answers": answered["answers"],
        "repeats": all(each == answers[0] for each in answers),
    }
