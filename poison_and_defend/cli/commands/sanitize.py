"""`sanitize`: a set of images in, the same sanitized out; and proof at any later time that it still is what was written."""

from pathlib import Path
from typing import Any

from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.cli.options.parsing import CommandParser, Given
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.reading.files import plain
from poison_and_defend.storage.targets.base import digest_set
from poison_and_defend.storage.verify import verify
from poison_and_defend.training.launch import Launch

DEFAULTS = None


def add_options(parser: CommandParser, arguments: list[str]) -> None:
    """Options of sanitizing, where it runs, and what is verified instead."""
    parser.add_class_arguments(_task(arguments), None)
    group = parser.add_argument_group("Instead, prove that a sanitized set is complete and unchanged")
    group.add_argument("--verify", type=str, default=None, help="Folder or .npz that sanitize wrote.")
    group.add_argument("--expect", type=str, default=None, help="Digest that was printed when the set was made.")
    parser.add_class_arguments(Launch, "trainer")


def run(given: Given) -> None:
    """Sanitize what is missing of a set, or verify one."""
    options = dict(given.options)
    verified, expected = options.pop("verify"), options.pop("expect")
    if verified is not None:
        _verify(verified, options["data"].root, expected)
    elif expected is not None:
        raise InputError("a digest is expected of a set that is verified: name it, for example --verify FOLDER (--expect)")
    else:
        sanitize_alone(_task(given.arguments)(**options), given.launch)


def _task(arguments: list[str]) -> type[SanitizeTask]:
    # A folder needs none of the data sets, which take longer to import than a thousand images to sanitize.
    if not any("source" in argument or argument.startswith(("--config", "--print", "--help", "-h")) for argument in arguments):
        return SanitizeTask
    import poison_and_defend.datamodules  # noqa: F401
    from poison_and_defend.cleaning.data_task import SanitizeDataTask

    return SanitizeDataTask


def _verify(place: str, root: Any, expected: str | None) -> None:
    if isinstance(root, list):
        raise InputError("a set is compared with one folder or .npz that it was made from (--data.root)")
    with StoreProgress("verify") as bar:
        manifest = verify(Path(place), bar, None if root is None else Path(root), expected)
    text = f"{place} is complete and unchanged: {manifest['sanitized']} images sanitized"
    print(text + (f", {manifest['copied']} copied, {manifest['skipped']} skipped" if manifest["not_sanitized"] else ""))
    if manifest["lost_classes"]:
        print(f"no image of the classes {', '.join(map(plain, manifest['lost_classes']))} could be sanitized")
    unproved = "" if expected else "; compare it with the one printed when the set was made (--expect DIGEST)"
    print(f"digest {digest_set(manifest)}{unproved}")
