"""Started launch: a server that is ready, what its start logged, and an injected slowdown."""

from __future__ import annotations

from dataclasses import dataclass

from perfgate.engines import chosen, held
from perfgate.engines import registry as engines
from perfgate.engines.base import Engine, LaunchFacts, ServerConfig
from perfgate.engines.injection import Injection
from perfgate.errors import describe_error
from perfgate.results.schema import Launch
from perfgate.run import start_phases
from perfgate.run.probes import stated_routing
from perfgate.servers import prepared
from perfgate.servers.log import opened
from perfgate.servers.running import RunningServer
from perfgate.web import NoAnswer


@dataclass(frozen=True)
class StartedLaunch:
    """A server that is ready, and its launch as first recorded."""

    config: ServerConfig
    server: RunningServer
    launch: Launch


def start_launch(
    config: ServerConfig,
    server: RunningServer,
    index: int,
    injection: Injection,
) -> StartedLaunch:
    """Inject a slowdown if one is given, and read what the server logged so far.

    Args:
        index: which launch of the server it is.
        injection: the change to make on purpose; empty in normal runs.

    Raises:
        LogLost: its log is gone, which says what the engine chose.
        InjectionFailed: the delay was not accepted.
        RoutingNotStated: tokens get other experts than stated.
    """
    engine = engines.lookup(config.engine)
    record = server.launch_record(config.key)
    facts = LaunchFacts(values={}, effective={})
    logged: dict[str, str] = {}
    choices: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    # Without one it is an operator's, of whom nothing but answers is asked.
    if server.log is not None:
        with opened(server.log) as log:
            facts = engine.read_log(config, log)
        logged = dict(facts.facts)
        if prepared.imports_s(server.log) is not None:
            logged["imports"] = "made before the start"
        choices, notes = _choices(engine, server, facts)
    if config.stated_routing:
        stated_routing.confirm(engine, config, server.url)
    _inject(engine, config, server, injection)
    values = dict(facts.values)
    values |= start_phases.values(record)
    launch = Launch(
        server=config.key,
        index=index,
        start=record,
        values=values,
        notes=(*server.notes, *notes),
        effective=choices,
        settings=facts.settings,
        facts=logged,
        injected=injection.record(),
        measured=False,
    )
    return StartedLaunch(config, server, launch)


def _inject(
    engine: Engine,
    config: ServerConfig,
    server: RunningServer,
    injection: Injection,
) -> None:
    """Have every token delayed, where that is asked.

    Raises:
        InjectionFailed: the delay was not accepted.
    """
    if injection.per_token_ms is None:
        return
    inject_delay = engine.inject_delay
    if config.held:
        inject_delay = held.inject_delay
    inject_delay(server.url, injection.per_token_ms)


def _choices(
    engine: Engine, server: RunningServer, facts: LaunchFacts
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the engine chose, by its log and by what it says itself; and notes."""
    told: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    try:
        told = engine.read_choices(server.url)
    except NoAnswer as failure:
        notes = (f"choices of the engine: {failure.seen}",)
    except ValueError as error:
        notes = (f"choices of the engine: {describe_error(error)}",)
    if not told and not facts.effective:
        return {}, notes
    choices = chosen.complete(facts.effective)
    for name, value in chosen.complete(told).items():
        if choices[name] == chosen.NOT_SEEN:
            choices[name] = value
    return choices, notes
