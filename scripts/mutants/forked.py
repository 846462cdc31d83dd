"""A process of its own for every run of tests, forked from one that has imported what all of them need.

The package under test is not among that: it is imported in the fork, from sources in which one file may be another in memory.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

HEAVY = (
    "pytest", "torch", "numpy", "scipy.stats", "scipy.special", "scipy.optimize", "sklearn.datasets", "sklearn.metrics",
    "torchvision.transforms.v2", "torchvision.datasets", "torchmetrics", "lightning.pytorch", "diffusers", "jsonargparse",
    "safetensors.torch", "PIL.Image", "matplotlib.pyplot", "rich.progress", "hypothesis", "yaml",
)  # fmt: skip
"""Other people's packages, which take ten seconds to import."""

TIMED_OUT = -1


def warm() -> None:
    """Import the heavy packages once."""
    os.environ.update(
        OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false",
        HF_HUB_OFFLINE="1", MPLBACKEND="agg", HYPOTHESIS_STORAGE_DIRECTORY=f"{tempfile.gettempdir()}/mutants",
    )  # fmt: skip
    for name in HEAVY:
        importlib.import_module(name)
    # Nothing that is there now is looked at, and so copied, by a fork's garbage collector.
    gc.freeze()


def replace_source(path: Path, source: str) -> None:
    """Have this process import ``path`` with another content; the file, and what Python keeps compiled, stay as they are."""
    original = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        own = self.get_filename(fullname)
        if Path(own) != path:
            return original(self, fullname)
        return compile(source, own, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def run_forked(work: Callable[[], int], limit: float, output: Path | None = None) -> int:
    """Do work in a fork.

    Args:
        work: Returns the exit status.
        limit: Seconds after which it is killed, with every process that it started.
        output: File for what it prints; nowhere if None.

    Returns:
        The exit status, minus the number of a signal that ended it from without being asked, or :data:`TIMED_OUT`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _work(work, output)
    until, pause = time.monotonic() + limit, 0.01
    try:
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else code - 1
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)
        return TIMED_OUT
    finally:
        _end(child)


def _end(child: int) -> None:
    """Kill a fork, if it is still there, and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _work(work: Callable[[], int], output: Path | None) -> None:
    """The fork's life."""
    status = 70
    try:
        os.setpgid(0, 0)
        target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        status = int(work())
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        # Not sys.exit: nothing of the parent's may be closed or written twice.
        os._exit(status)
