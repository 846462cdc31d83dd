"""From what was typed to the command that runs."""

from poison_and_defend.cli.allocation import leave_idle_allocation
from poison_and_defend.cli.help.front_door import answer
from poison_and_defend.cli.options.wording import suggestion
from poison_and_defend.cli.table import COMMANDS, LIGHTNING, Entry
from poison_and_defend.core.errors import InputError


def dispatch(arguments: list[str]) -> None:
    """Run the command that the first argument names.

    Raises:
        InputError: If there is no such command, its input is bad, or the disk is full.
    """
    leave_idle_allocation()
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return
    if name not in COMMANDS:
        told = suggestion(name, COMMANDS) or f": choose from {', '.join(COMMANDS)}"
        raise InputError(f"there is no command {name!r}{told}")
    entry = COMMANDS[name]
    try:
        _start(name, entry, rest)
    except InputError:
        raise
    except Exception as error:
        # Not above, since it knows the files that numpy writes.
        from poison_and_defend.cli.full_disk import refuse_full_disk

        refuse_full_disk(entry.place, entry.continues, error)
        raise


def _start(name: str, entry: Entry, arguments: list[str]) -> None:
    if answer(name, arguments):
        return
    module = entry.load()
    if {"-h", "--help"} & set(arguments):
        # The catalogue is not of these sources, so that the parsers themselves are asked.
        from poison_and_defend.cli.help.describe import help_of, parser_of

        print(help_of(name, parser_of(name)), end="")
        return
    if hasattr(module, "start"):
        module.start(name, arguments)
        return
    # Not above, since it imports torch.
    from poison_and_defend.cli.options.parsing import CommandParser, parse

    parser = CommandParser.of(name, module.DEFAULTS)
    module.add_options(parser, arguments)
    module.run(parse(parser, arguments))


def _overview() -> str:
    own = [(name, entry.about) for name, entry in COMMANDS.items() if name not in LIGHTNING]
    lines = ["usage: poison-and-defend COMMAND [--config FILE] [--OPTION VALUE ...]", "", "commands:"]
    lines += [f"  {name:18} {about}" for name, about in own]
    lines += ["", "Lightning:", *(f"  {name:18} {COMMANDS[name].about}" for name in LIGHTNING)]
    lines += ["", "poison-and-defend COMMAND --help lists the options of a command; --print_config writes them as YAML."]
    return "\n".join(lines)
