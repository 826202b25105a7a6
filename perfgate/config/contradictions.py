"""Contradictions: options of a session that exclude each other."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from perfgate.config.config import Config
from perfgate.config.option_values import BadOption, refuse_combinations
from perfgate.config.project import Project
from perfgate.engines import injection
from perfgate.judge.paired import PAIRS


def refuse_contradictions(config: Config) -> None:
    """Refuse options that exclude each other, with or without a platform."""
    excluded = []
    if config.external_urls:
        excluded.append("--attach")
    if config.proposes_baselines:
        excluded.append("--baseline-record")
    if config.is_paired:
        reason = "both builds are launched here, and neither becomes a baseline"
        refuse_combinations("--against-engine", reason, excluded)
    if config.is_screened and config.external_urls:
        reason = "an external server cannot be launched in pairs"
        refuse_combinations("--against-engine", reason, ["--attach"])
    if config.stated_routings:
        reason = "an external server routes its tokens by itself"
        attached = ["--attach"] if config.external_urls else []
        refuse_combinations("--stated-routing", reason, attached)
    if config.injections:
        reason = (
            "an injection changes servers that are launched here, and such a run "
            "never becomes a baseline"
        )
        refuse_combinations(injection.OPTIONS, reason, excluded)
    if config.is_paired and 1 < config.launches < PAIRS:
        raise BadOption(
            tried=f"--launches {config.launches} with --against-engine",
            seen=f"a comparison needs at least {PAIRS} pairs",
            remedy=f"write --launches {PAIRS} or more, or leave it out",
        )


def refuse_unusable_session(config: Config) -> None:
    """Refuse what a session that selects a platform cannot use."""
    if config.worker_count and config.plan:
        raise BadOption(
            tried="-n with --plan",
            seen="a plan runs no test",
            remedy="leave -n out",
        )
    if config.worker_count and config.is_screened:
        raise BadOption(
            tried="-n with --pairs suspect",
            seen="pairs are neighbours, and each worker knows only its own suspects",
            remedy="leave -n out, or write --pairs all",
        )


def refuse_empty_gate(
    option: argparse.Namespace, project: Project, platforms: Sequence[str]
) -> None:
    """Refuse a gate where nothing is judged: it would exit with 0."""
    if option.gate == "advisory":
        return
    gate = f"--gate={option.gate}"
    if not platforms:
        raise BadOption(
            tried=gate,
            seen="no platform is selected, so nothing is judged",
            remedy=f"add -m {' or -m '.join(project.study.platforms)}",
        )
    for name, is_given in (
        ("--collect-only", option.collectonly),
        ("--plan", option.plan),
    ):
        if is_given:
            raise BadOption(
                tried=f"{gate} with {name}",
                seen=f"{name} judges nothing",
                remedy="leave one of them out",
            )
