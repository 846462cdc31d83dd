"""The seed of a set's noise, drawn once the set is there: whoever poisoned it cannot have known it.

An attacker who knows the noise that will be added crafts poisons that survive it, and every certificate assumes that he does
not. So the seed comes from the operating system when a set is received, lies in a private file *beside* the output, and what
is published holds a commitment to it alone: a hash, by which the owner can later prove which seed it was.
"""

import contextlib
import glob
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import beside, create_whole
from poison_and_defend.core.reading.files import check_fields, read_json

_WHAT = "no private file of a noise seed"


@dataclass(frozen=True)
class NoiseSecret:
    """A seed and the salt that keeps its hash from being searched for.

    Attributes:
        seed: In [0, 2**63).
        salt: 64 hex digits.
    """

    seed: int
    salt: str

    @property
    def commitment(self) -> str:
        """64 hex digits that prove the seed once it is told, and say nothing of it before."""
        return hashlib.sha256(f"{self.salt} {self.seed}".encode()).hexdigest()


def draw_secret() -> NoiseSecret:
    """A seed from the operating system."""
    return NoiseSecret(secrets.randbits(63), secrets.token_hex(32))


def secret_path(place: Path, commitment: str) -> Path:
    """The private file beside an output: a hidden file, which no data set of images takes for a class."""
    return beside(place, f"noise-{commitment[:16]}.json")


def keep_secret(place: Path, secret: NoiseSecret, option: str) -> None:
    """Write the private file, readable by its owner alone; it is on disk when this returns.

    Args:
        place: The output that it lies beside.
        secret: What is kept.
        option: What the user should change if it cannot be written.

    Raises:
        InputError: If it cannot be written.
    """
    path = secret_path(place, secret.commitment)
    partial = path.with_name(f"{path.name}.partial")
    text = json.dumps({"of": place.name, "seed": secret.seed, "salt": secret.salt, "commitment": secret.commitment}, indent=2)
    try:
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot keep the noise seed in {path}: {error.strerror} ({option})") from error


def recall_secret(place: Path, commitment: str, option: str) -> NoiseSecret:
    """The secret that a set in the making was begun with.

    Raises:
        InputError: If its private file is gone, damaged or another's.
    """
    path = secret_path(place, commitment)
    try:
        value = read_json(path, _WHAT, option, limit=1 << 16)
    except FileNotFoundError as error:
        raise InputError(
            f"the noise seed of {place} is gone with its private file {path}: put the file back, or remove what is there "
            f"and begin again ({option})"
        ) from error
    check_fields(value, {"seed": int, "salt": str}, path, _WHAT, option)
    secret = NoiseSecret(value["seed"], value["salt"])
    if secret.commitment != commitment or not 0 <= secret.seed < 2**63:
        raise InputError(
            f"{path} holds another seed than the one that {place} was begun with: put the right one back ({option})"
        )
    return secret


def share_secret(path: Path, own: NoiseSecret, option: str) -> NoiseSecret:
    """The secret of a private file: that of the first of all processes that ask for it.

    Args:
        path: The file.
        own: What this process would use.
        option: What the user should change if the file cannot be used.

    Raises:
        InputError: If the file can neither be read nor written.
    """
    try:
        create_whole(path, (json.dumps({"seed": own.seed, "salt": own.salt}, indent=2) + "\n").encode(), 0o600)
        value = read_json(path, _WHAT, option, limit=1 << 16)
    except OSError as error:
        raise InputError(f"cannot keep the noise seed in {path}: {error.strerror} ({option})") from error
    check_fields(value, {"seed": int, "salt": str}, path, _WHAT, option)
    return NoiseSecret(value["seed"], value["salt"])


def forget_secrets(place: Path, keep: str | None) -> None:
    """Remove the private files of earlier outputs of this name, all but that of one commitment."""
    kept = None if keep is None else secret_path(place, keep).name
    with contextlib.suppress(OSError):
        for path in place.parent.glob(f"{glob.escape(beside(place, 'noise-').name)}*.json*"):
            if path.name != kept:
                with contextlib.suppress(OSError):
                    path.unlink()
