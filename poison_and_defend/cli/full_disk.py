"""A full disk, said in one sentence by every command: whatever writes, and whatever library it writes with."""

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import NO_ROOM

# torch writes checkpoints by C++, whose errors have a text and no number.
_TEXTS = ("No space left on device", "file write failed", "Disk quota exceeded")


def refuse_full_disk(option: str, continues: bool, error: BaseException) -> None:
    """Turn what a full disk made a library raise into a sentence; anything else is left alone.

    Args:
        option: By which the command that was running is told where to write.
        continues: Whether it goes on from what it kept.
        error: What ended it.

    Raises:
        InputError: If the disk is full.
    """
    if isinstance(error, InputError):
        return
    cause: BaseException | None = error
    while cause is not None:
        by_number = isinstance(cause, OSError) and cause.errno in NO_ROOM
        if by_number or (isinstance(cause, RuntimeError) and any(text in str(cause) for text in _TEXTS)):
            where = f" for {cause.filename}" if isinstance(cause, OSError) and cause.filename else ""
            then = "what is finished is kept, and the same command continues" if continues else "the same command begins again"
            raise InputError(
                f"there is no room left on the disk{where}: {then} once there is, or choose another ({option})"
            ) from error
        cause = cause.__cause__ or cause.__context__
