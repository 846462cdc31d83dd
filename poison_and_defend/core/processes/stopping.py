"""Stopping where it does no harm when a scheduler or a user asks for it."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

STOPPED_STATUS = 75
"""Exit status of a command that stopped when asked and continues when started again (``EX_TEMPFAIL`` of sysexits.h)."""

GRACE_SECONDS = 2.0
"""For what is at hand to be finished; schedulers often give ten before they kill."""

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stopped(Exception):
    """Work was stopped by a signal, at a point from which it can be continued; the message says how far it came."""


class StopSignals:
    """While entered, SIGTERM and SIGUSR1 do not end the process but set :attr:`asked`, for work to look at between pieces.

    What other code had installed, such as Lightning's own handlers, is there again afterwards. Outside the main thread, where
    Python allows no handlers, nothing is changed.

    Args:
        children: Processes that this one launched, which get the signal too: a scheduler may know the first alone.
    """

    def __init__(self, children: Sequence[int] = ()) -> None:
        self.children = children
        self.asked: str | None = None
        self._when = 0.0
        self._before: dict[int, Any] = {}

    @property
    def overdue(self) -> bool:
        """Whether so much time has passed since one asked that what is at hand is given up, to be done again."""
        return self.asked is not None and time.monotonic() - self._when > GRACE_SECONDS

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            # None where it was not installed by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked is None:
            self._when = time.monotonic()
        self.asked = signal.Signals(number).name
        for child in self.children:
            with contextlib.suppress(OSError):
                os.kill(child, number)
