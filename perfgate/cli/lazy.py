"""LazyGroup: a click group that imports a subcommand when it is called, not for `--help`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Entry:
    """A subcommand that is not imported yet.

    Attributes:
        target: "module:attribute" of the click command.
        help: its short help, the first sentence of its docstring.

    """

    target: str
    help: str


class LazyGroup(click.Group):
    """A group that shows a table's help and imports only the subcommand that is called.

    `main --help` would otherwise import what each single subcommand needs (scipy,
    jinja2, rich).

    Args:
        entries: name -> where the command is and what it is for.

    """

    def __init__(
        self, *args: object, entries: Mapping[str, Entry], **kwargs: object
    ) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.entries = dict(entries)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the table, sorted as click does."""
        return sorted(self.entries)

    def get_command(
        self, ctx: click.Context, cmd_name: str
    ) -> click.Command | None:
        """Import one command; None if there is none of that name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(
            importlib.import_module(module), attribute
        )
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands from the table alone."""
        widest = max(len(name) for name in self.entries)
        rows = []
        for name in self.list_commands(ctx):
            stand_in = click.Command(name, help=self.entries[name].help)
            # As much as click leaves for it: the column's two margins and its gap take
            # 6.
            rows.append(
                (
                    name,
                    stand_in.get_short_help_str(formatter.width - 6 - widest),
                )
            )
        with formatter.section("Commands"):
            formatter.write_dl(rows)
