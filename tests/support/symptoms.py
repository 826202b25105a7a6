"""Symptoms of servers, built for the rules for causes."""

import dataclasses
import math

from perfgate.judge.causes import rules
from perfgate.judge.causes.symptoms import Moved, ServerSymptoms

UNITS_HIGHER = ("output_throughput", "saturated_throughput", "kv_cache_tokens")


def moved(metric, load, streams, before, now):
    """A metric that changed; red where it lost more than 2 %."""
    loss = math.log(now / before)
    if metric in UNITS_HIGHER:
        loss = -loss
    return Moved(
        case=f"s/{load}/{metric}",
        metric=metric,
        load=load,
        streams=streams,
        together=False,
        before=before,
        now=now,
        loss=loss,
        noise=0.003,
        is_red=loss > 0.02,
    )


def step(streams, before, now):
    """A decode step."""
    return moved("itl_median_ms", f"at-{streams}", streams, before, now)


def first(before, now):
    """The first token of one stream."""
    return moved("ttft_median_ms", "at-1", 1, before, now)


def long_prompts(before, now):
    """The first token of one stream whose prompts have 4,096 tokens."""
    row = moved("ttft_median_ms", "long", 1, before, now)
    return dataclasses.replace(row, prompt_tokens=4096)


def batch(load, streams, before, now, tokens):
    """A batch of a held engine; tokens of each prompt and of each answer."""
    prompt_tokens, output_tokens = tokens
    return dataclasses.replace(
        moved("batch_active_ms", load, streams, before, now),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )


def closed(streams, before, now):
    """Throughput of a closed load."""
    return moved("output_throughput", f"at-{streams}", streams, before, now)


def server(*rows, sparse=False, ranks=1, **fields):
    """A server whose name says nothing about its model."""
    base = ServerSymptoms(
        key=f"e-{'a' if sparse else 'b'}-tp{ranks}",
        engine="e",
        model="a" if sparse else "b",
        is_sparse=sparse,
        layers=32,
        ranks=ranks,
        gpus=ranks,
        injected="",
        moved=rows,
        changed=(),
        decoding=(),
    )
    return dataclasses.replace(base, **fields)


def named(*servers):
    """The cause of the first server."""
    return rules.find(servers[0], servers).cause
