"""The command ``poison-and-defend`` from a clone, for scripts that call this file."""

from poison_and_defend.cli.main import console

console()
