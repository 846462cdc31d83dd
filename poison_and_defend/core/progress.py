"""One progress bar for work that many ranks share."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from poison_and_defend.core.processes.ranks import Ranks

BETWEEN_LINES = 60.0
"""Seconds between two lines where there is no terminal, such as in the log of a queued job."""


class StoreProgress:
    """A bar with an estimate of the time left; where standard error is not a terminal, a line each minute and one at the end.

    Args:
        text: What is being done.
        enabled: False on every rank but the first.
    """

    def __init__(self, text: str, *, enabled: bool = True) -> None:
        self.text = text
        console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not enabled or not sys.stderr.isatty(),
        )
        self.enabled = enabled
        self.task = self.progress.add_task(text, total=None, note="")
        self.last = ""
        # What was done when it was first asked, as after a resume, took no time of this run.
        self.first: tuple[int, float] | None = None
        self.told = time.monotonic()

    def __enter__(self) -> "StoreProgress":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        if self.enabled and self.last and not sys.stderr.isatty():
            print(self.last, file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` are finished."""
        self.progress.update(self.task, completed=done, total=total, note=note)
        self.last = f"{self.text}: {done} of {total} {note}".rstrip()
        now = time.monotonic()
        before, since = self.first = self.first or (done, now)
        if self.enabled and not sys.stderr.isatty() and before < done < total and now - self.told >= BETWEEN_LINES:
            self.told = now
            left = (now - since) * (total - done) / (done - before)
            print(f"{self.last}, about {duration(left)} left", file=sys.stderr, flush=True)


def announce(text: str, ranks: Ranks) -> None:
    """One line to the user, from the first rank."""
    if ranks.rank == 0:
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
