"""Whose folder it is: an experiment with other settings is refused."""

import json
from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import create_whole
from poison_and_defend.core.reading.files import brief, check_fields, read_json


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what a folder's files depend on, before any other process can, or compare it with what is there.

    Raises:
        InputError: If the folder holds, or is about to hold, an experiment with other settings: its files would be trusted
            wrongly.
    """
    path, what = folder / "settings.json", "no list of settings"
    text = json.dumps(settings, indent=2) + "\n"
    try:
        if not create_whole(path, text.encode()):
            found = check_fields(read_json(path, what, "--name"), {}, path, what, "--name")
        else:
            return
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror} (--output_dir)") from error
    # As JSON has it, so that a tuple is a list.
    for key, value in json.loads(text).items():
        if found.get(key) != value:
            raise InputError(
                f"{folder} holds an experiment with {key} = {brief(found.get(key), 400)}, now it is {value}: choose another "
                "(--name)"
            )
