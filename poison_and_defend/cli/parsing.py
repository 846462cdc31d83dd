"""Options of a command from the arguments of classes; whatever is wrong with one is said in one sentence."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from poison_and_defend.cli.presets import expand_presets
from poison_and_defend.cli.sentences import sentence
from poison_and_defend.core.errors import InputError
from poison_and_defend.training.checkpoint_check import refuse_addresses
from poison_and_defend.training.machine import check_machine


class OneSentence(argparse.ArgumentParser):
    """A parser that raises `InputError` where others print their usage and what they think of it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse the arguments, in words for whoever typed them."""
        # jsonargparse's own, for the arguments of one class, try each kind that an option may be.
        if not getattr(self, "exit_on_error", True):
            super().error(message, ex)  # type: ignore[call-arg]
        parser = getattr(ex, "subcommand_parser", None) or self
        raise InputError(sentence(parser, message)) from ex


class CommandParser(OneSentence, ArgumentParser):
    """Of a command of this project. Options are written out: a shortened one may be another that was mistyped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})


@contextmanager
def readable_configs() -> Iterator[None]:
    """Read configurations from this machine alone, and say what that raises besides in one sentence."""
    # Lightning, once imported, has the parser fetch them from addresses.
    set_parsing_settings(config_read_mode_fsspec_enabled=False)
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError("the configuration is no text: YAML in UTF-8 is read (--config FILE.yaml)") from error
    except RecursionError as error:
        raise InputError("the configuration is nested too deep to be one (--config FILE.yaml)") from error


def parse(parser: ArgumentParser, arguments: list[str]) -> tuple[Namespace, Namespace]:
    """Parsed configuration, and the same with classes instantiated."""
    with readable_configs():
        config = parser.parse_args(expand_presets(arguments))
    check_environment(config)
    return config, parser.instantiate_classes(config)


def check_environment(config: Namespace) -> None:
    """Refuse what this machine or its environment cannot do, before anything is built.

    Raises:
        InputError: If the machine lacks what is asked of it, a checkpoint is an address, or W&B's variables are no use.
    """
    if "trainer" in config:
        check_machine(*(config.trainer.get(name) for name in ("accelerator", "devices", "num_nodes", "strategy")))
        # Only a whole Trainer of Lightning's writes and reads checkpoints.
        if "default_root_dir" in config.trainer:
            refuse_addresses(config)
    if config.get("wandb_project") or "Wandb" in str(config.get("trainer.logger")):
        from poison_and_defend.callbacks.wandb_mode import wanted_mode

        wanted_mode()


def parse_task(command: str, description: str, kind: type, arguments: list[str], launch: type | None = None) -> tuple[Any, Any]:
    """The task of a command whose options are the arguments of one class, and where it runs.

    Args:
        command: Its name.
        description: What it does, for ``--help``.
        kind: A dataclass.
        arguments: What was typed.
        launch: :class:`poison_and_defend.training.launch.Launch` for a command with ``--trainer`` options.

    Returns:
        The task, and the launch or None.
    """
    parser = CommandParser(prog=f"cli.py {command}", description=description)
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(kind, None)
    if launch is not None:
        parser.add_class_arguments(launch, "trainer")
    options = dict(vars(parse(parser, arguments)[1]))
    options.pop("config", None)
    where = options.pop("trainer", None)
    return kind(**options), where
