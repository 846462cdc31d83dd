"""Options of a command from the arguments of classes; whatever is wrong with one is said in one sentence."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self, TypeVar

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from poison_and_defend.cli.options.arms import configured_arms
from poison_and_defend.cli.options.former import current_classes, current_options
from poison_and_defend.cli.options.own_code import find_own_code
from poison_and_defend.cli.options.own_data import configured_data, takes_data, typed_data
from poison_and_defend.cli.options.presets import config_path, expand
from poison_and_defend.cli.options.sentences import sentence
from poison_and_defend.cli.table import COMMANDS, usage
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.options import from_flat, option_groups
from poison_and_defend.training.checkpoint_check import refuse_addresses
from poison_and_defend.training.machine import check_machine

Task = TypeVar("Task")


class OneSentence(argparse.ArgumentParser):
    """A parser that raises `InputError` where others print their usage and what they think of it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Refuse the arguments, in words for whoever typed them."""
        # jsonargparse's own, for the arguments of one class, try each kind that an option may be.
        if not getattr(self, "exit_on_error", True):
            super().error(message, ex)  # type: ignore[call-arg]
        parser = getattr(ex, "subcommand_parser", None) or self
        raise InputError(sentence(parser, message, getattr(self, "words", ()))) from ex

    def _apply_actions(self, cfg: Any, parent_key: str = "", *args: Any, **kwargs: Any) -> Any:
        # Here alone it is known whose options a configuration has, those of the arguments of one class among them.
        if not parent_key:
            known = {action.dest for action in self._actions}
            values = dict(vars(cfg)) if isinstance(cfg, Namespace) else cfg
            takers = {action.dest for action in self._actions if takes_data(getattr(action, "_typehint", None))}
            current = configured_data(current_options(values, known), takers)
            if current != values:
                cfg = current
        return super()._apply_actions(cfg, parent_key, *args, **kwargs)  # type: ignore[misc]


class CommandParser(OneSentence, ArgumentParser):
    """Of a command of this project. Options are written out: a shortened one may be another that was mistyped."""

    words: Sequence[str] = ()
    """The command line, after presets became files, once there is one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    @classmethod
    def of(cls, command: str, defaults: str | None) -> Self:
        """The parser of a command, still without its options.

        Args:
            command: Its name.
            defaults: The preset whose values its options have by default.
        """
        files = [] if defaults is None else [config_path(defaults)]
        parser = cls(usage=usage(command), description=COMMANDS[command].about, default_config_files=files)
        parser.add_argument("--config", action="config", help="YAML file or preset; may be repeated, later ones win.")
        return parser


@dataclass(frozen=True, eq=False)
class Given:
    """What a command was given.

    Attributes:
        options: By name, built; those of where it runs are not among them.
        launch: Where it runs, None for a command that starts no ranks.
        text: The resolved configuration as YAML.
        arguments: What was typed.
    """

    options: dict[str, Any]
    launch: Any
    text: str
    arguments: list[str]

    def task(self, kind: type[Task]) -> Task:
        """The task of these options, in its groups."""
        return from_flat(kind, self.options)


def add_task(parser: CommandParser, task: type) -> None:
    """The options of all groups of a task, flat, each group under its own title."""
    for group in option_groups(task).values():
        parser.add_class_arguments(group, None)


def parse(parser: CommandParser, arguments: list[str]) -> Given:
    """Parse, check against this machine and environment, and build.

    Raises:
        InputError: If an option is wrong, or this machine cannot do what is asked.
    """
    with readable_configs():
        parser.words = typed_data(expand(arguments))
        config = parser.parse_args(parser.words)
    check_environment(config)
    options = dict(vars(parser.instantiate_classes(config)))
    options.pop("config", None)
    whole = "default_root_dir" in config.get("trainer", {})
    launch = None if whole else options.pop("trainer", None)
    text = "" if whole else parser.dump(config, skip_none=False)
    return Given(options, launch, text, arguments)


_jsonargparses = get_loader("yaml")


def _load_yaml(text: str) -> Any:
    value = current_classes(_jsonargparses(text))
    value = configured_arms(value) if isinstance(value, dict) else value
    find_own_code(value)
    return value


@contextmanager
def readable_configs() -> Iterator[None]:
    """Read configurations from this machine alone, and say what that raises besides in one sentence."""
    # Lightning, once imported, has the parser fetch them from addresses.
    set_parsing_settings(config_read_mode_fsspec_enabled=False)
    set_loader("yaml", _load_yaml, (yaml.YAMLError,))
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError("the configuration is no text: YAML in UTF-8 is read (--config FILE.yaml)") from error
    except RecursionError as error:
        raise InputError("the configuration is nested too deep to be one (--config FILE.yaml)") from error


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
        from poison_and_defend.callbacks.wandb_mode import check_variables

        check_variables()
