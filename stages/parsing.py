"""Options of a command from the arguments of classes."""

from typing import Any

from jsonargparse import ArgumentParser, Namespace

from stages.presets import expand_presets


def parse(parser: ArgumentParser, arguments: list[str]) -> tuple[Namespace, Namespace]:
    """Parsed configuration, and the same with classes instantiated."""
    config = parser.parse_args(expand_presets(arguments))
    return config, parser.instantiate_classes(config)


def parse_task(command: str, description: str, kind: type, arguments: list[str], launch: type | None = None) -> tuple[Any, Any]:
    """The task of a command whose options are the arguments of one class, and where it runs.

    Args:
        command: Its name.
        description: What it does, for ``--help``.
        kind: A dataclass.
        arguments: What was typed.
        launch: :class:`stages.launch.Launch` for a command with ``--trainer`` options.

    Returns:
        The task, and the launch or None.
    """
    parser = ArgumentParser(prog=f"cli.py {command}", description=description)
    parser.add_argument("--config", action="config", help="YAML file; may be repeated, later ones win")
    parser.add_class_arguments(kind, None)
    if launch is not None:
        parser.add_class_arguments(launch, "trainer")
    options = dict(vars(parse(parser, arguments)[1]))
    options.pop("config", None)
    where = options.pop("trainer", None)
    return kind(**options), where
