"""Lazy commands: one that is not imported yet looks like one that is."""

import click
import pytest

from perfgate.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_table_says_what_a_command_says_of_itself(name):
    """The help that is shown without importing a command is that command's own first sentence."""
    command = main.get_command(click.Context(main), name)

    assert command.get_short_help_str(limit=1000) == COMMANDS[name].help
    assert name == command.name


def test_help_is_the_same_as_of_an_eager_group(perfgate):
    """The list of commands, cut to the terminal's width, is what click itself would write."""
    context = click.Context(main)
    commands = {
        name: main.get_command(context, name)
        for name in main.list_commands(context)
    }
    eager = click.Group("main", commands=commands)
    lazy_text, eager_text = (
        click.HelpFormatter(width=80),
        click.HelpFormatter(width=80),
    )

    main.format_commands(context, lazy_text)
    eager.format_commands(click.Context(eager), eager_text)

    assert eager_text.getvalue() == lazy_text.getvalue()
