"""A full disk, said in one sentence by every command: whatever writes, and whatever library it writes with."""

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import NO_ROOM

# The option by which a command is told where to write, and whether it continues what it kept.
_PLACES = {
    "poison-and-defend": ("--output_dir", True),
    "benchmark": ("--output_dir", True),
    "craft": ("--output_dir", True),
    "certify": ("--output_dir", True),
    "sanitize": ("--out", True),
    "quality": ("--out", False),
    "recommend-sigma": ("--out", False),
    "train-denoiser": ("--out", False),
    "export-poisons": ("--out", False),
    "report": ("--run", False),
    "predict": ("--out", False),
}
_LIGHTNING = ("--trainer.default_root_dir", False)
# torch writes checkpoints by C++, whose errors have a text and no number.
_TEXTS = ("No space left on device", "file write failed", "Disk quota exceeded")


def refuse_full_disk(command: str, error: BaseException) -> None:
    """Turn what a full disk made a library raise into a sentence; anything else is left alone.

    Args:
        command: The command that was running.
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
            option, continues = _PLACES.get(command, _LIGHTNING)
            where = f" for {cause.filename}" if isinstance(cause, OSError) and cause.filename else ""
            then = "what is finished is kept, and the same command continues" if continues else "the same command begins again"
            raise InputError(
                f"there is no room left on the disk{where}: {then} once there is, or choose another ({option})"
            ) from error
        cause = cause.__cause__ or cause.__context__
