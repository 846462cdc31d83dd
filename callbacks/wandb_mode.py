"""What the environment says about Weights & Biases, before anything is written or sent."""

import os

from poison_and_defend.core.errors import InputError

_MODES = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
    "shared": "shared",
}


def wanted_mode() -> str:
    """``online``, ``offline``, ``disabled`` or ``shared``, as ``WANDB_MODE`` asks; online where it is unset or empty.

    ``WANDB_DISABLED=true``, which other trainers read, is ``disabled``.

    Raises:
        InputError: If the mode is another.
    """
    given = os.environ.get("WANDB_MODE", "").strip().lower()
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "on"):
        given = "disabled"
    if not given:
        # W&B itself fails on an empty one.
        os.environ.pop("WANDB_MODE", None)
        return "online"
    if given not in _MODES:
        raise InputError(
            f"WANDB_MODE is {given!r}: it is online, offline, disabled or shared, for example WANDB_MODE=offline "
            "(--wandb_project null needs none)"
        )
    os.environ["WANDB_MODE"] = given
    return _MODES[given]
