"""Rules for causes: one function each, from the symptoms of a session to a finding.

A choice of the engine that changed names the cause by itself where the row that moved is
one that it can move. Without one, the shape of the loss decides: over batch sizes, over
phases, over models and ranks. No rule fits: unknown.
"""

from __future__ import annotations

from perfgate.judge.causes import choice_rules, loss_rules, words
from perfgate.judge.causes.finding import Finding, Rule, Servers, lost, phase_of
from perfgate.judge.causes.symptoms import ServerSymptoms

# The first that fits counts: what the engine chose, then the shape of the loss.
RULES: tuple[Rule, ...] = (
    choice_rules.graphs,
    # A smaller batch has fewer graphs, too.
    choice_rules.batch_cap,
    choice_rules.fewer_graphs,
    choice_rules.prefill_chunk,
    choice_rules.attention,
    choice_rules.expert_choice,
    choice_rules.communication_choice,
    choice_rules.scheduling,
    choice_rules.other_choice,
    loss_rules.memory,
    loss_rules.answers,
    loss_rules.communication,
    loss_rules.host,
    loss_rules.expert_path,
    loss_rules.per_token,
)


def find(server: ServerSymptoms, servers: Servers) -> Finding:
    """What the first rule that fits says; "unknown" where none does."""
    for rule in RULES:
        finding = rule(server, servers)
        if finding is not None:
            return finding
    return Finding("unknown", phase_of(server), words.lines(lost(server)))
