"""The command `perfgate`, as `python -m perfgate`."""

from perfgate.cli.main import main

main(prog_name="perfgate")
