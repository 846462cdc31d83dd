import numpy as np
import torch

from poison_and_defend.certification.deterministic import election, run_off
from poison_and_defend.defenses import Partition, RunOff


def ranked(logits: torch.Tensor) -> torch.Tensor:
    return logits.argsort(stable=True, dim=-1, descending=True).argsort(-1).to(torch.uint8)


def test_models_that_name_neither_decide_the_second_round() -> None:
    # Two name 0, two name 1, and one that names 2 would rather have 1: the majority says 0, the run-off 1.
    logits = torch.tensor([[3.0, 0, 1], [3, 0, 1], [0, 3, 1], [0, 3, 1], [0, 1, 3]])[:, None]
    assert int(Partition().decide(logits.argmax(2), 3)) == 0
    assert int(RunOff().decide(ranked(logits), 3)) == 1


def test_ranks_decide_as_logits_do() -> None:
    logits = torch.randn(7, 300, 4, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    winners, radii = run_off(election(logits.numpy()))
    vote, ranks = RunOff(parts=7), ranked(logits)
    assert np.array_equal(vote.decide(ranks, 4).numpy(), winners)
    assert np.array_equal(vote.withstands(ranks, 4, 100).numpy(), radii) and radii.max() > 0


def test_parts_are_those_of_the_partition() -> None:
    keys, labels = torch.arange(50), torch.zeros(50, dtype=torch.int64)
    pairs = zip(RunOff(parts=4, key=3).parts(keys, labels, 2), Partition(parts=4, key=3).parts(keys, labels, 2), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
