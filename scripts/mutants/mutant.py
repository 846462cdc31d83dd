"""What a planted fault is: a piece of a source file that is replaced by another."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        file: Path of the source, relative to the repository.
        place: Function or class that it lies in, such as ``Budget.project``; "" at the top of the file.
        kind: Which operator planted it.
        before: The piece that is replaced.
        after: What it is replaced by.
        number: Among the mutants of one place that are told apart by nothing else.
        start: First byte of the piece in the file.
        end: First byte after it.
        line: Of the piece, from 1.
        lines: First and last line of its statement, or of the head of one that holds others.
    """

    file: str
    place: str
    kind: str
    before: str
    after: str
    number: int
    start: int
    end: int
    line: int
    lines: tuple[int, int]

    @property
    def key(self) -> str:
        """Tells it apart from all others, whatever changes elsewhere in the file."""
        parts = (self.file, self.place, self.kind, self.before, self.after, str(self.number))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def planted(self, source: str) -> str:
        """The source with the fault."""
        content = source.encode()
        assert content[self.start : self.end].decode() == self.before, "the file has changed"
        return (content[: self.start] + self.after.encode() + content[self.end :]).decode()
