"""What a certificate's randomness is drawn from: a secret of the folder, or a seed that was given to reproduce another."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poison_and_defend.core.files import create_whole
from poison_and_defend.core.noise_secret import draw_secret, forget_secrets, keep_secret, recall_secret
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.reading.files import check_fields, read_json
from poison_and_defend.defenses.base import SECRET

_WHAT, _OPTION = "no commitment to a noise seed", "--output_dir"


@dataclass(frozen=True)
class Randomness:
    """Where everything random about the voters comes from.

    Attributes:
        seed: Of subsamples, noise and training.
        told: What may be told of it.
    """

    seed: int
    told: dict[str, Any]


def settle_randomness(folder: Path, given: int | None, ranks: Ranks) -> Randomness:
    """The secret of a folder, drawn by the first of all processes that ask, or a seed that was given.

    The folder holds a commitment, ``noise.json``, and the private file lies beside it.

    Args:
        given: The seed, for reproduction; None for the secret.

    Raises:
        InputError: If either cannot be written, or the private file of a folder that was begun is gone.
    """
    if given is not None:
        return Randomness(given, {"noise_seed": given})
    path = folder / "noise.json"
    if ranks.rank == 0 and not path.exists():
        drawn = draw_secret()
        keep_secret(folder, drawn, _OPTION)
        create_whole(path, (json.dumps({"commitment": drawn.commitment}, indent=2) + "\n").encode())
    ranks.barrier("noise committed to")
    value = check_fields(read_json(path, _WHAT, _OPTION), {"commitment": str}, path, _WHAT, _OPTION)
    secret = recall_secret(folder, value["commitment"], _OPTION)
    if ranks.rank == 0:
        forget_secrets(folder, value["commitment"])
    return Randomness(secret.seed, {"noise_seed": SECRET, "commitment": secret.commitment})
