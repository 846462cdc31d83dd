"""Three stages at work at once: while one block is denoised, the next is read and the one before is encoded and written."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

from poison_and_defend.sanitizing.tiled import Sanitized
from poison_and_defend.storage.sources import Item

Read = list[Future[list[Item]]]


class Computing(NamedTuple):
    """A block that is being denoised.

    Attributes:
        items: What was read of it.
        groups: Those of one shape each that can be denoised.
        wait: Returns what became of the groups, once it is there.
    """

    block: int
    items: list[Item]
    groups: list[list[Item]]
    wait: Callable[[], list[Sanitized]]


@dataclass(eq=False)
class Pipeline:
    """Blocks on their way through the stages.

    Attributes:
        claim: Returns a block that is nobody's yet, None if there is none or no more are wanted.
        read: Begins to read a block.
        compute: Begins to denoise a block that is read.
        write: Waits until a block is denoised, and begins to write it.
    """

    claim: Callable[[], int | None]
    read: Callable[[int], Read]
    compute: Callable[[int, list[Item]], Computing]
    write: Callable[[Computing], Future[None]]
    _reading: deque[tuple[int, Read]] = field(default_factory=deque)
    _computing: deque[Computing] = field(default_factory=deque)
    _writing: deque[Future[None]] = field(default_factory=deque)

    @property
    def busy(self) -> bool:
        """Whether any block is on its way."""
        return bool(self._reading or self._computing or self._writing)

    def advance(self) -> None:
        """Move what is on its way a stage on, and take up a new block if there is room for one."""
        self._read_ahead()
        if self._reading:
            block, read = self._reading.popleft()
            items = [item for future in read for item in future.result()]
            self._read_ahead()
            self._computing.append(self.compute(block, items))
        if len(self._computing) > 1 or (self._computing and not self._reading):
            self._writing.append(self.write(self._computing.popleft()))
        while self._writing and (self._writing[0].done() or len(self._writing) > 2 or not (self._reading or self._computing)):
            self._writing.popleft().result()

    def _read_ahead(self) -> None:
        if not self._reading and (block := self.claim()) is not None:
            self._reading.append((block, self.read(block)))
