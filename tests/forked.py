"""Commands in processes of their own that are forked from one which has imported all that they need.

A new process imports torch and Lightning for seven to nine seconds of a core. What is about imports, the console script,
several ranks or W&B's own process is given a new one.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

_COMMANDS = Path(__file__).resolve().parents[1] / "poison_and_defend" / "cli" / "commands"
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([f"poison_and_defend.cli.commands.{path.stem}" for path in sorted(_COMMANDS.glob("[!_]*.py"))])


def forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float, *, merged: bool = False
) -> subprocess.CompletedProcess[str]:
    """What the console script does with these arguments; both that it prints as one text if they are merged."""
    with tempfile.TemporaryDirectory() as place:
        printed = [Path(place) / "out", Path(place) / ("out" if merged else "err")]
        process = _SERVER.Process(target=_command, args=(list(arguments), folder, dict(environment), printed))
        # Torch looks at it when it is imported, by the first of them all.
        with patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):
            process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout, printed[0].read_text(), printed[1].read_text())
        return subprocess.CompletedProcess(list(arguments), process.exitcode or 0, *(path.read_text() for path in printed))


def can_be_forked(arguments: Sequence[str]) -> bool:
    """Whether it starts no rank, which would be the same process once more; help imports nothing, and is there sooner anew."""
    text = " ".join(arguments)
    return not any(word in text for word in ("devices=2", "devices=3", "devices 2", "ddp", "--help"))


def _command(arguments: list[str], folder: Path, environment: dict[str, str], printed: list[Path]) -> None:
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["poison-and-defend", *arguments]
    from poison_and_defend.cli.main import console

    try:
        console()
    finally:
        # Which a process of multiprocessing leaves out.
        atexit._run_exitfuncs()
