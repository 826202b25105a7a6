"""Text of profiles and counter-proofs: which kernels cost the loss, and what brings it back."""

from __future__ import annotations

from collections.abc import Iterator

from perfgate import formatting
from perfgate.results.profile import (
    CounterProof,
    KernelChange,
    Profile,
    ProfiledPhase,
    ProfiledSteps,
)

PHASES: dict[ProfiledPhase, str] = {
    "decode": "a decode step",
    "prefill": "the prefill of a request",
    "request": "a request",
}
MOST_KERNELS = 5
LITTLE = 0.5  # of a loss: what explains less explains little
MORE_THAN_ALL = 1.25  # of a loss: what brings back or explains more
VIEWER = "https://ui.perfetto.dev"
NO_BASE = "no base to compare it with: name one by --against-engine"


def lines(profile: Profile, run: str) -> Iterator[tuple[str, str]]:
    """A profile, a label and a text for each line.

    Args:
        run: the run directory, for the traces.
    """
    yield "profile", _steps(profile)
    for kernel in profile.kernels[:MOST_KERNELS]:
        yield profile.unit, kernel_text(kernel, profile.before is not None)
    yield "rest", _rest(profile)
    rank = late_rank(profile)
    if rank:
        yield "rank", rank
    if profile.before is None:
        yield "explains", NO_BASE
    else:
        yield "explains", explains(profile)
    overhead = _overhead(profile)
    if overhead:
        yield "profiler", overhead
    for note in profile.notes:
        yield "note", note
    folders = dict.fromkeys(path.rpartition("/")[0] for path in profile.traces)
    where = formatting.listed([f"{run}/{folder}" for folder in folders])
    yield "traces", f"{where} (open a file in {VIEWER})"


def late_rank(profile: Profile) -> str:
    """Which rank the others wait for, where that is a part of the loss; else ""."""
    late = profile.late_rank
    if late is None:
        return ""
    text = f"rank {late.rank} is late: another one waits {_ms(late.wait_ms)} ms for it"
    if late.before_ms is None:
        return text
    return f"{text}, {_ms(late.before_ms)} ms in the base"


def explains(profile: Profile) -> str:
    """Which share of the loss the kernels explain: "96 % of the +12.6 ms ...: ..."."""
    lost = (
        f"{_signed(profile.loss_ms)} ms that it takes longer under the profiler"
    )
    if profile.agrees:
        lost = f"{_signed(profile.loss_ms)} ms that {profile.lost_metric} lost"
    share = profile.explained
    if share is None:
        return _nothing(profile)
    named = [
        f"{row.short_name} {_signed(row.added_ms)} ms" for row in profile.slower
    ]
    if profile.replaced_ms > 0:
        named.append(_replaced(profile))
    text = f"{share * 100:.0f} % of the {lost}"
    if share > MORE_THAN_ALL:
        text = (
            f"more than the {lost}, of which other {profile.unit}s save a part"
        )
    if named:
        text += f": {formatting.listed(named)}"
    if share < LITTLE:
        text += f"; {_remainder(profile)}"
    if profile.lost_ms is not None and not profile.agrees:
        text += (
            f" ({profile.lost_metric} had changed by {_signed(profile.lost_ms)} ms: "
            "launches of a shared machine differ)"
        )
    return text


def _replaced(profile: Profile) -> str:
    """What new kernels cost more than those in whose place they stand."""
    new = formatting.count(len(profile.replaced_by), f"new {profile.unit}")
    return f"{new} in place of others {_signed(profile.replaced_ms)} ms"


def _nothing(profile: Profile) -> str:
    """That kernels explain nothing, and how many sequences a step has otherwise."""
    text = f"nothing: {PHASES[profile.phase]} of {profile.load} takes no longer"
    before, now = profile.before, profile.now
    if before is None or before.batch == now.batch:
        return text
    return f"{text}, and has {now.batch} sequences in place of {before.batch}"


def finding(profile: Profile) -> str:
    """A profile in one sentence, for a headline."""
    if profile.before is None:
        return f"profiled, with {NO_BASE}"
    return f"{profile.unit}s explain {explains(profile)}"


def counter_proof(proof: CounterProof) -> str:
    """What putting a choice back did: "with --moe-backend triton put back: -0.1 % ...".

    A choice is the cause where the loss goes with it.
    """
    if proof.problem:
        return f"{proof.argument} was not put back: {proof.problem}"
    change = formatting.signed_percent(proof.change)
    without = formatting.signed_percent(proof.without)
    verdict = _brought_back(proof.brings_back)
    return (
        f"with {proof.argument} put back: {change} in {proof.metric} of {proof.load} "
        f"vs {proof.base} ({without} without it): {verdict}"
    )


def _brought_back(share: float) -> str:
    """What a share of the loss that is gone says of the choice."""
    text = f"{share * 100:.0f} %"
    if share < LITTLE:
        return f"it brings back only {text}, so there is another cause"
    if share > MORE_THAN_ALL:
        return (
            "it brings back all of the loss and more: "
            "launches of a shared machine differ"
        )
    return f"it brings back {text} of the loss"


def kernel_text(kernel: KernelChange, has_base: bool) -> str:
    """A kernel: "fused_moe_kernel: 2.10 -> 14.3 ms, 64 -> 64 calls"."""
    name = kernel.short_name
    if not has_base:
        return (
            f"{name}: {_ms(kernel.now_ms)} ms, {_calls(kernel.now_count)} calls"
        )
    state = ""
    if not kernel.before_count:
        state = " (new)"
    elif not kernel.now_count:
        state = " (vanished)"
    times = f"{_ms(kernel.before_ms)} -> {_ms(kernel.now_ms)} ms"
    calls = f"{_calls(kernel.before_count)} -> {_calls(kernel.now_count)} calls"
    return f"{name}{state}: {_signed(kernel.added_ms)} ms ({times}, {calls})"


def _steps(profile: Profile) -> str:
    now = profile.now
    text = f"{PHASES[profile.phase]} of {profile.load}"
    batches = [now.batch]
    if profile.before is not None:
        batches.insert(0, profile.before.batch)
    sizes = dict.fromkeys(str(batch) for batch in batches if batch)
    if sizes:
        text += f" ({' -> '.join(sizes)} sequences)"
    times = f"{_ms(now.step_ms)} ms"
    counted = f"{now.steps} steps"
    if profile.before is not None:
        times = f"{_ms(profile.before.step_ms)} -> {times}"
        counted = f"{profile.before.steps} and {now.steps} steps"
        text += f", {profile.base} against the candidate"
    ranks = formatting.count(profile.ranks, "rank")
    return f"{text}: {times} under the profiler ({counted}, {ranks})"


def _rest(profile: Profile) -> str:
    idle = "gaps in which no kernel runs"
    if profile.unit == "operator":
        idle = "outside of operators"
    rows = (
        (idle, "idle_ms"),
        ("communication", "communication_ms"),
        (f"other {profile.unit}s", "other_ms"),
    )
    texts = []
    for name, field in rows:
        now = _ms(getattr(profile.now, field))
        if profile.before is not None:
            before = _ms(getattr(profile.before, field))
            now = f"{before} -> {now}"
        texts.append(f"{name} {now} ms")
    return ", ".join(texts)


def _remainder(profile: Profile) -> str:
    """Where else the loss is, where kernels explain little of it."""
    if profile.idle_added_ms >= LITTLE * profile.loss_ms:
        place = "the loss is between kernels (host, launches)"
        if profile.unit == "operator":
            place = "the loss is outside of operators (Python, waiting)"
        return f"{place}: {_signed(profile.idle_added_ms)} ms"
    return f"most of the loss is not in {profile.unit}s of this step"


def _overhead(profile: Profile) -> str:
    """What the profiler itself costs, of each launch."""
    texts = []
    for name, steps in (("base", profile.before), ("candidate", profile.now)):
        share = _share(steps)
        if share is not None:
            texts.append(f"{formatting.signed_percent(share)} ({name})")
    if not texts:
        return ""
    return f"it changes ITL by {' and '.join(texts)}; these launches are not judged"


def _share(steps: ProfiledSteps | None) -> float | None:
    if steps is None:
        return None
    return steps.overhead


def _ms(value: float) -> str:
    return f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"


def _calls(count: float) -> str:
    return f"{count:.4g}"
