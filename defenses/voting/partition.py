"""Levine, Feizi, "Deep Partition Aggregation: Provable Defenses against General Poisoning Attacks", ICLR 2021."""

import hashlib

import torch
from torch import Tensor

from poison_and_defend.certification.deterministic import partition_poisons
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.voting.base import Voting, count_votes


class Partition(Voting):
    """Split the set into parts by a hash, train one model on each, and let them vote.

    The paper hashes images and bounds insertions and deletions. Clean-label poisons *change* rows that are there; so the hash
    is of a row's number, under a key, and a changed row stays in its part and touches one model. It follows (as Theorem 1,
    with one model a change) that the answer ``a`` with ``n_a`` votes stands while fewer than half of the gap to any other
    class is turned::

        floor(min over c of (n_a - n_c - [c < a]) / 2) changed rows

    That holds for any change of as many rows, provided that row numbers, the key and the training seeds were fixed before, and
    that nothing that came before the vote looked at more than one row at a time.

    Args:
        parts: How many parts, and so models.
        key: Key of the hash; any whole number that does not depend on the set.

    Raises:
        InputError: If a value is out of range.
    """

    name = "partition"
    label = "partition vote"
    color = "#b07a9a"

    def __init__(self, parts: int = 10, key: int = 0) -> None:
        if not 2 <= parts <= 65536:
            raise InputError(f"parts is {parts}: it is 2 to 65536 (--arms.{self.name}.parts)")
        if not 0 <= key < 2**63:
            raise InputError(f"key is {key}: it is at least 0 and below 2**63 (--arms.{self.name}.key)")
        self.count, self.key = parts, key

    def parts(self, keys: Tensor, labels: Tensor, num_classes: int) -> list[Tensor]:
        """See :meth:`Voting.parts`."""
        places = part_of(keys, self.count, self.key)
        return [(places == part).nonzero()[:, 0] for part in range(self.count)]

    def withstands(self, votes: Tensor, num_classes: int, rows: int) -> Tensor:
        """See :meth:`Voting.withstands`."""
        return torch.from_numpy(partition_poisons(count_votes(votes, num_classes).numpy()))


def part_of(keys: Tensor, parts: int, key: int) -> Tensor:
    """Part of each row number ``(N,)``, ``(N,)`` int64 in 0 to ``parts - 1``: the keyed BLAKE2b hash of the number."""
    secret = key.to_bytes(8, "little")
    # 64 bits, so that no part is preferred by more than parts / 2**64.
    found = [
        int.from_bytes(hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8, key=secret).digest(), "little") % parts
        for number in keys.tolist()
    ]
    return torch.tensor(found, dtype=torch.int64)
