"""Ctrl-C: one line that says what to do, whatever was running; and the end of ranks that nobody needs any more."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130
"""Exit status of a command that the user stopped, as shells have it."""

_ranks: list[int] = []


class Interrupts:
    """While entered, notes that SIGINT came: what raises next may be another rank that went away, not the interrupt.

    In another thread than the main one, where Python allows no handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "Interrupts":
        try:
            self._before = signal.signal(signal.SIGINT, self._note)
        except ValueError:
            self._before = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


def remember_ranks(processes: tuple[int, ...]) -> None:
    """These processes are to end with this one."""
    _ranks.extend(processes)


def end_ranks() -> None:
    """End the ranks that this process started, before they say at length that it went away."""
    for process in _ranks:
        try:
            # All they make is written whole or not at all, and a rank that waits for another hears nothing milder.
            os.kill(process, signal.SIGKILL)
        except OSError:
            continue


def end_interrupted(stopped: BaseException) -> int:
    """Say what to do, once for all ranks, end those that this process started, and return the exit status."""
    end_ranks()
    if os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0":
        text = str(stopped) if isinstance(stopped, KeyboardInterrupt) and stopped.args else ""
        print(text or "stopped; the same command continues where it was", file=sys.stderr)
    return STATUS


def is_interrupt(error: BaseException) -> bool:
    """Whether this is an interrupt, or what Lightning's Trainer makes of one."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt)
    )


@contextmanager
def saying(text: Callable[[], str]) -> Iterator[None]:
    """Where an interrupted command does not continue by itself: what to do instead."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if not is_interrupt(error):
            raise
        raise KeyboardInterrupt(text()) from error
