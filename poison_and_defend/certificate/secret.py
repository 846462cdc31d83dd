"""What a certificate's randomness is drawn from: a secret of the folder, or a seed that was given to reproduce another."""

import json

from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.core.files import create_whole
from poison_and_defend.core.noise_secret import draw_secret, forget_secrets, keep_secret, recall_secret
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.core.reading.files import check_fields, read_json

_WHAT, _OPTION = "no commitment to a noise seed", "--output_dir"


def settle_secret(task: CertifyTask, ranks: Ranks) -> None:
    """Give a task the secret of its folder, drawn by the first of all processes that ask; a given seed is left alone.

    The folder holds a commitment, ``noise.json``, and the private file lies beside it.

    Raises:
        InputError: If either cannot be written, or the private file of a folder that was begun is gone.
    """
    if task.noise_seed is not None:
        return
    path = task.folder / "noise.json"
    if ranks.rank == 0 and not path.exists():
        secret = draw_secret()
        keep_secret(task.folder, secret, _OPTION)
        create_whole(path, (json.dumps({"commitment": secret.commitment}, indent=2) + "\n").encode())
    ranks.barrier("noise committed to")
    value = check_fields(read_json(path, _WHAT, _OPTION), {"commitment": str}, path, _WHAT, _OPTION)
    task.secret = recall_secret(task.folder, value["commitment"], _OPTION)
    if ranks.rank == 0:
        forget_secrets(task.folder, value["commitment"])
