"""What the attacks' steps are compared with: networks small enough to differentiate by hand, and the papers' formulas in numpy.

In double precision, pixel by pixel, and by none of the project's own helpers: a test that shares a helper with an attack shares
its faults.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from poison_and_defend.attacks.threat.surrogate import CraftBatch, Surrogate

Array = NDArray[np.float64]

SETUPS, POISONS, SHAPE = 2, 3, (1, 4, 4)
PIXELS = 16


class TwoLayers(Surrogate):
    """``tanh(B tanh(A x))``, and a linear head without a bias; remembers all images that it was shown."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.a, self.b, self.head = (
            nn.Parameter(torch.from_numpy(rng.normal(size=shape) / np.sqrt(shape[1])))
            for shape in ((7, PIXELS), (5, 7), (4, 5))
        )
        self.seen: list[Array] = []

    def blocks(self, images: Tensor) -> list[Tensor]:
        self.seen.append(images.detach().numpy().copy())
        first = torch.tanh(images.flatten(1) @ self.a.T)
        return [first, torch.tanh(first @ self.b.T)]

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) @ self.head.T

    def by_hand(self, images: Array) -> tuple[Array, Array]:
        """Outputs of both blocks, ``(..., 7)`` and ``(..., 5)``, for images ``(..., 1, 4, 4)``."""
        a, b = self.a.detach().numpy(), self.b.detach().numpy()
        first = np.tanh(images.reshape(*images.shape[:-3], PIXELS) @ a.T)
        return first, np.tanh(first @ b.T)

    def slope(self, images: Array, of_second: Array, of_first: Array | float = 0.0) -> Array:
        """Derivative by the images, given that by the blocks' outputs: the chain rule."""
        a, b = self.a.detach().numpy(), self.b.detach().numpy()
        first, second = self.by_hand(images)
        behind = of_first + (of_second * (1 - second**2)) @ b
        return ((behind * (1 - first**2)) @ a).reshape(images.shape)


def models(count: int = 2) -> list[TwoLayers]:
    """The attacker's, each another."""
    return [TwoLayers(seed).eval() for seed in range(1, count + 1)]


def small_batch() -> CraftBatch:
    """Two setups of three bases, some of whose pixels are black, white, or next to that."""
    rng = np.random.default_rng(0)

    def images(*shape: int) -> Tensor:
        return torch.from_numpy(rng.choice([0.0, 1.0, 0.004, 0.995, 0.3, 0.5, 0.7], (*shape, *SHAPE), p=[0.1] * 4 + [0.2] * 3))

    labels = torch.tensor([[2] * POISONS, [1] * POISONS])
    return CraftBatch(images(SETUPS, POISONS), labels, images(SETUPS, 1), (3, 2**40), images(SETUPS, POISONS))


def projected(images: Array, bases: Array, norm: str, eps: float) -> Array:
    """The nearest point of each base's ball, then of the pixels' range."""
    change = images - bases
    if norm == "linf":
        change = np.minimum(np.maximum(change, -eps), eps)
    else:
        lengths = np.sqrt((change**2).sum((-3, -2, -1), keepdims=True))
        change = np.where(lengths > eps, change / np.where(lengths > 0, lengths, 1) * eps, change)
    return np.minimum(np.maximum(bases + change, 0.0), 1.0)


class Adam:
    """Kingma and Ba (2015), algorithm 1, with its usual constants."""

    def __init__(self) -> None:
        self.count, self.mean, self.square = 0, np.zeros(()), np.zeros(())

    def step(self, rate: float, gradient: Array) -> Array:
        """What is subtracted."""
        self.count += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        unbiased = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)


def nearest_weights(points: Array, goal: Array) -> Array:
    """The convex combination of points ``(k, F)`` nearest to a goal ``(F,)``: the best over all faces of the simplex."""
    best, found = np.inf, np.zeros(len(points))
    for size in range(1, len(points) + 1):
        for face in itertools.combinations(range(len(points)), size):
            own = points[list(face)]
            # Stationary under the constraint that the weights sum to 1.
            system = np.block([[own @ own.T, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
            weights = np.linalg.lstsq(system, np.append(own @ goal, 1.0), rcond=None)[0][:size]
            distance = ((weights @ own - goal) ** 2).sum()
            if (weights >= 0).all() and distance < best:
                best, found = distance, np.zeros(len(points))
                found[list(face)] = weights
    return found


def loss_gradient(model: TwoLayers, images: Tensor, label: Tensor) -> Tensor:
    """Of the mean cross-entropy of images under one label by all parameters, in one row; differentiable in the images."""
    scores = model(images)
    loss = (scores.exp().sum(1).log() - scores[:, int(label)]).mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()), create_graph=True)])


def shown_within(surrogates: Sequence[TwoLayers], bases: Array, norm: str, eps: float, *, but: Tensor | None = None) -> int:
    """How often all poisons were shown, each time within the budget and the pixels' range.

    Args:
        but: Images that are shown as well and are no poisons.
    """
    times = 0
    for images in (images for surrogate in surrogates for images in surrogate.seen):
        own = images.reshape(-1, *SHAPE)
        if len(own) != SETUPS * POISONS or (but is not None and np.array_equal(own, but.flatten(0, 1).numpy())):
            continue
        own = own.reshape(bases.shape)
        np.testing.assert_allclose(own, projected(own, bases, norm, eps), rtol=0, atol=1e-12)
        times += 1
    return times
