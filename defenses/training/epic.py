"""EPIC: Yang, Liu, Mirzasoleiman, "Not All Poisons are Created Equal: Robust Training against Data Poisoning", ICML 2022."""

import heapq

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.training.base import Training
from poison_and_defend.defenses.training.course import Epoch, Run, State

Floats = NDArray[np.float64]

_ROWS = 256
# Below this a row adds nothing to what medoids already cover but rounding.
_NOTHING = 1e-9


class Epic(Training):
    """Drop rows whose gradients are isolated, for good, every few epochs: algorithm 1.

    Gradients are those by the last layer's input, ``softmax(z) - onehot(y)``, of all rows without augmentation in evaluation
    mode. Of each class ``share`` of the rows that are left become medoids: greedily those that raise
    ``sum_i max_j exp(-|g_i - g_j| / K)`` most (facility location). A row that is alone in its cluster is dropped.

    Greedy steps are lazy, which finds the same medoids. A row whose gradient a medoid already has is never one: equal rows are
    not isolated. A class never loses its last row. Epochs keep their number of steps, where the authors' get shorter: rows that
    are left come again. In the authors' transfer learning batch normalization drifts in training mode; here features are fixed.

    Args:
        share: Medoids of each class as a share of its rows, 0.1 to 0.3 from scratch and 0.2 in transfer learning.
        every: Epochs between two looks, 2 of 40 epochs, 10 of 200, and 1 in transfer learning.
        start: Epoch, from 0, before which rows are first dropped; 10 of 40, 30 of 200, and 0 in transfer learning.
        until: Share of the epochs after which none is dropped any more; the authors' last decay of the learning rate is at 7/8.

    Raises:
        InputError: If a value is out of range.
    """

    name = "epic"
    label = "EPIC"
    color = "#b07a2a"
    changes_images = False

    def __init__(self, share: float = 0.2, every: int = 2, start: int = 10, until: float = 0.875) -> None:
        for name, value in (("share", share), ("until", until)):
            if not 0 < value <= 1:
                raise InputError(f"{name} of EPIC is {value:g}: it is a share above 0, at most 1 (--*.{name})")
        at_least("every", every, 1, "--*.every", of="of EPIC")
        at_least("start", start, 0, "--*.start", of="of EPIC")
        self.share, self.every, self.start, self.until = float(share), every, start, float(until)

    def check_run(self, run: Run) -> None:
        """See :meth:`Training.check_run`."""
        if not self._looks(self.start, run.epochs):
            raise InputError(
                f"start of EPIC is {self.start}: it must be below {self.until:g} of the {run.epochs} epochs, or nothing is "
                "dropped (--*.start, --*recipe.epochs)"
            )

    def begin(self, members: int, rows: int) -> State:
        """See :meth:`Training.begin`."""
        return {"kept": torch.ones(members, rows, dtype=torch.bool)}

    def kept(self, state: State) -> Tensor:
        """See :meth:`Training.kept`."""
        return state["kept"]

    def between_epochs(self, epoch: Epoch) -> None:
        """See :meth:`Training.between_epochs`."""
        if not self._looks(epoch.number, epoch.epochs):
            return
        with torch.no_grad():
            positions = torch.arange(epoch.labels.shape[1])
            logits = torch.cat([epoch.logits(epoch.inputs(part)) for part in positions.split(_ROWS)], 1)
            gradients = logits.softmax(-1) - functional.one_hot(epoch.labels, epoch.num_classes)
        for member, kept in enumerate(epoch.state["kept"]):
            own = gradients[member].double(), epoch.labels[member], epoch.places[member], kept
            kept &= torch.from_numpy(~self._isolated(*(value.cpu().numpy() for value in own))).to(kept.device)

    def _looks(self, number: int, epochs: int) -> bool:
        return self.start <= number < self.until * epochs and (number - self.start) % self.every == 0

    def _isolated(
        self, gradients: Floats, labels: NDArray[np.int64], places: NDArray[np.int64], kept: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """``(N,)``: rows of one member to drop now. A row that its set holds twice is looked at once."""
        first, copies = np.unique(places, return_index=True, return_inverse=True)[1:]
        dropped = np.zeros(len(first), dtype=bool)
        for label in np.unique(labels):
            (rows,) = np.nonzero((labels[first] == label) & kept[first])
            alone = isolated(gradients[first[rows]], max(1, int(self.share * len(rows) + 1e-9)))
            dropped[rows[alone]] = not alone.all()
        return dropped[copies]


def isolated(gradients: Floats, count: int) -> NDArray[np.bool_]:
    """``(n,)``: the rows that are alone in the cluster of a medoid, of so many medoids.

    Args:
        gradients: ``(n, K)`` of the rows of one class.
    """
    square = (gradients**2).sum(1)
    distances = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * gradients @ gradients.T, 0))
    np.fill_diagonal(distances, 0)
    similarity = np.exp(-distances / gradients.shape[1])
    chosen = medoids(similarity, count)
    cluster = similarity[:, chosen].argmax(1)
    cluster[chosen] = np.arange(len(chosen))
    sizes = np.bincount(cluster, minlength=len(chosen))
    found: NDArray[np.bool_] = sizes[cluster] == 1
    return found


def medoids(similarity: Floats, count: int) -> list[int]:
    """Rows that greedily raise ``sum_i max_j similarity[i, j]`` most; fewer where nothing more is raised.

    Gains only fall as medoids are chosen, so that a gain of before is a bound (Minoux, 1978): the row on top of the heap whose
    gain is that of now is the best. Ties go to the lower row.
    """
    covered = np.zeros(len(similarity))
    heap = [(-gain, row, 0) for row, gain in enumerate(similarity.sum(0))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        bound, row, known = heapq.heappop(heap)
        if -bound <= _NOTHING:
            break
        if known == len(chosen):
            chosen.append(row)
            covered = np.maximum(covered, similarity[:, row])
        else:
            gain = np.maximum(similarity[:, row] - covered, 0).sum()
            heapq.heappush(heap, (-gain, row, len(chosen)))
    return chosen
