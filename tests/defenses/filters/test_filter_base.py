import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses import Received, Verdict


@pytest.fixture
def received() -> Received:
    labels = torch.tensor([0, 0, 1, 1, 1])
    return Received(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), labels, torch.arange(5), 3, None, 0)


def test_a_verdict_of_this_set_passes(received: Received) -> None:
    kept = torch.tensor([True, False, False, True, True])
    verdict = Verdict(kept, torch.arange(5).double()).check(received, "mine")
    assert torch.equal(verdict.kept, kept) and verdict.scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("kept", "scores", "message"),
    [
        ([True] * 4, torch.zeros(5), r"mine answers \(4,\).*5 images"),
        ([1.0] * 5, torch.zeros(5), r"mine answers .*float32.*5 images"),
        ([True] * 5, torch.zeros(5, 2), r"\(5, 2\) scores for 5"),
        ([True] * 5, torch.full((5,), float("nan")), "not numbers for 5 rows"),
        ([False, False, True, True, True], torch.zeros(5), r"keeps none of the 2 rows of class 0.*--poisons_told"),
    ],
)
def test_what_is_none_is_refused(received: Received, kept: list, scores: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Verdict(torch.tensor(kept), scores).check(received, "mine")
