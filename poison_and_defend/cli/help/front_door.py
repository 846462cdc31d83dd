"""Help and wrong options, answered before anything is imported that takes seconds.

What is refused here is refused in the parser's own words. Whatever cannot be judged from the catalogue alone is let through:
the parser has the last word.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from poison_and_defend.cli.help import catalogue
from poison_and_defend.cli.help.catalogue import Catalogue, Option
from poison_and_defend.cli.options.presets import expand
from poison_and_defend.cli.options.wording import missing_options, no_value, stray_word, unknown_option, wrong_value
from poison_and_defend.core.errors import InputError, no_images
from poison_and_defend.diffusion.find_denoiser import find_denoiser

# What must be there, and what it is called. Inputs alone: outputs may be made.
_INPUTS = {
    "run": "folder",
    "verify": "set",
    "sanitized": "set",
    "data.root": "folder or file",
    "classifier": "checkpoint",
    "setups": "file of setups",
    "poisons_from": "folder of poisons",
    "ckpt_path": "checkpoint",
}
_KEYWORDS = ("best", "last", "hpc", "null")
# Data sets that make their folder themselves.
_DOWNLOAD = ("CIFAR10DataModule", "CIFAR100DataModule", "FashionMNISTDataModule", "MNISTDataModule")
_NUMBER = re.compile(r"[A-Za-z_][\w-]*")
_NUMBERS_IN_WORDS = ("inf", "nan", "infinity")
_BOOLS = ("true", "false", "yes", "no", "on", "off")


def answer(command: str, arguments: list[str]) -> bool:
    """Print a command's help, or refuse an option that it does not have.

    Returns:
        Whether the command is answered; if not, it is to be parsed and run.

    Raises:
        InputError: If there is no such option, it has no value or one of the wrong kind, or an input is not there.
    """
    known = catalogue.read(command)
    if known is None:
        return False
    if {"-h", "--help"} & set(arguments):
        print(known.help, end="")
        return True
    words = expand(arguments)
    if any(re.match(r"--(print_|[\w.]+\.help\b)", word) for word in words):
        return False
    if any(word.partition("=")[0] == "--config" for word in words):
        # What a configuration chooses is not known here, an attack's preset among them.
        known = replace(known, chosen={})
    given = list(_options(words, known))
    for name, value in given:
        _check(name, value, known, dict(given))
    names = {name for name, _ in given}
    missing = sorted(name for name, option in known.options.items() if option.required and name not in names)
    if missing and "config" not in names:
        raise InputError(missing_options(missing, [f"--{name} {known.options[name].example}" for name in missing]))
    # Of a class of somebody else's, nobody knows here what its options mean.
    data = (dict(given).get("data") or known.chosen.get("data") or "").rpartition(".")[2]
    listed = any(data in kinds for kinds in known.bases.values())
    images = command in ("sanitize", "quality", "recommend-sigma")
    for name, value in given:
        if name == "data.root" and not images and (not listed or data in _DOWNLOAD):
            continue
        _check_input(name, value, images=images)
    return False


def _options(words: list[str], known: Catalogue) -> Iterator[tuple[str, str]]:
    """Options and their values."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            raise InputError(stray_word(word))
        name, joined, value = word.removeprefix("--").partition("=")
        if joined:
            yield name, value
            continue
        following = next(rest, None)
        if following is None or (following.startswith("--") and len(following) > 2):
            # An option that nobody has is worth more words than one without a value.
            _check(name, "", known, {})
            found = known.options.get(name)
            raise InputError(no_value(name, f"--{name} {found.example if found else 'VALUE'}"))
        yield name, following


def _check(name: str, value: str, known: Catalogue, given: dict[str, str]) -> None:
    option, owner, others = _find(name, known, given)
    if option is None and others is not None:
        shown = {own: f"--{own} {found.example}" for own, found in others.items()}
        raise InputError(unknown_option(name.replace(".init_args", ""), owner, list(shown), lambda near: shown[near]))
    if option is None or not value:
        return
    if not _may_be(value, option):
        raise InputError(wrong_value(name.replace(".init_args", ""), value, option.takes, f"--{name} {option.example}"))


def _find(name: str, known: Catalogue, given: dict[str, str]) -> tuple[Option | None, str | None, dict[str, Option] | None]:
    """An option; else the class that lacks it and the options that there are; all None for what is not listed."""
    if name in known.options:
        return known.options[name], None, None
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        top = ".".join(parts[:count])
        if top not in known.options:
            continue
        above = known.options[top]
        below = ".".join(part for part in parts[count:] if part != "init_args")
        if above.open or (above.base is None and not _has_below(top, known)):
            return None, None, None
        if above.base is None:
            break
        kinds = known.bases[above.base]
        kind = (given.get(top) or known.chosen.get(top) or "").rpartition(".")[2]
        if kind not in kinds:
            return None, None, None
        return _below(below, top, kind, kinds[kind], known)
    return None, None, known.options


def _below(
    below: str, top: str, kind: str, own: dict[str, Option], known: Catalogue
) -> tuple[Option | None, str | None, dict[str, Option] | None]:
    """An argument of a class that an option takes; those of a class that it takes in turn are left to the parser."""
    if below in own:
        return own[below], None, None
    inner = below.rpartition(".")[0]
    if any(own[name].open or own[name].base for name in own if below.startswith(f"{name}.")) or inner:
        return None, None, None
    return None, kind, {f"{top}.{name}": option for name, option in own.items()}


def _has_below(top: str, known: Catalogue) -> bool:
    return any(name.startswith(f"{top}.") for name in known.options)


def _may_be(value: str, option: Option) -> bool:
    """Whether a value can be of an option's kinds; only what surely cannot is refused, and the parser looks at the rest."""
    if option.kinds is None or not _NUMBER.fullmatch(value):
        return True
    word = value.lower()
    if value in option.kinds or word in ("null", "none", "~"):
        return True
    if "bool" in option.kinds and word in _BOOLS:
        return True
    return "float" in option.kinds and word in _NUMBERS_IN_WORDS


def _check_input(name: str, value: str, *, images: bool) -> None:
    """Refuse an input that is not there. Patterns, lists and addresses are looked at by whoever reads them."""
    what = _INPUTS.get(name)
    if name.rpartition(".")[2] == "denoiser":
        find_denoiser(value)
    if name == "config" and "://" not in value and not Path(value).exists():
        raise InputError(f"the configuration {value} cannot be read: there is no such file (--config FILE.yaml)")
    if what is None or value in _KEYWORDS or re.search(r"[*?\[\]{}]|://", value):
        return
    if "\0" in value or Path(value).exists():
        return
    if name == "data.root" and images:
        raise no_images(value, "--data.root")
    raise InputError(f"there is no {what} {value} (--{name})")
