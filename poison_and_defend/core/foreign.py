"""Classes and objects of the user's: found by their path, and whatever they raise said in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from poison_and_defend.core.errors import InputError


def import_named(path: str, option: str) -> Any:
    """What a path such as ``my_module.MyClass`` names; nothing of it is called.

    Raises:
        InputError: If it cannot be imported.
    """
    module, _, name = path.rpartition(".")
    # A module of the user's may raise anything while it is imported.
    with in_one_sentence(f"{path} cannot be imported", option):
        return getattr(import_module(module), name)


@contextmanager
def in_one_sentence(text: str, option: str) -> Iterator[None]:
    """Whatever somebody's code raises, as what could not be done and why.

    Args:
        text: What could not be done.
        option: What the user should change.

    Raises:
        InputError: For anything that is raised within; one that is passes as it is.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{text}: {type(error).__name__}: {said} ({option})") from error
