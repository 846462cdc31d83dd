"""Options of a product in groups: frozen dataclasses, which a command line shows flat, each group under its own title."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

Task = TypeVar("Task")


def option_groups(task: type) -> dict[str, type]:
    """The groups of a task by the names of its fields: all of them are dataclasses, and no two share an option.

    Raises:
        TypeError: If two groups have an option of one name, which a flat command line could not tell apart.
    """
    hints = get_type_hints(task)
    groups = {field.name: hints[field.name] for field in fields(task)}
    names = [option.name for group in groups.values() for option in fields(group)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{task.__name__} has two options of one name: {', '.join(sorted(twice))}")
    return groups


def from_flat(task: type[Task], options: Mapping[str, Any]) -> Task:
    """A task from the options of all its groups, by their own names.

    Args:
        task: A frozen dataclass of groups, as of :func:`option_groups`.
        options: Values by the names of the groups' fields; what is left out has its default.

    Raises:
        TypeError: If an option is in no group, or one without a default is left out.
    """
    groups = option_groups(task)
    owners = {option.name: name for name, group in groups.items() for option in fields(group)}
    if unknown := sorted(set(options) - set(owners)):
        raise TypeError(f"{task.__name__} has no option {', '.join(unknown)}")
    chosen: dict[str, dict[str, Any]] = {name: {} for name in groups}
    for name, value in options.items():
        chosen[owners[name]][name] = value
    return task(**{name: group(**chosen[name]) for name, group in groups.items()})
