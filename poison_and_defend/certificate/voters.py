"""The voters of a certificate: models that each train on a subsample, noise and seed of their own, many at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor, nn

from poison_and_defend.certification import Sampling
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.datamodules import Split
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.images.row_digests import row_digests
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.lightning_modules.member_stack import Change
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.members import Fit, fit_members

# torch's CPU generator looks at the lowest 32 bits of a seed, and training adds epochs and steps to it: members stand this far
# apart, so that none ever meets another's numbers.
_SPACING = 2**14
MOST_MEMBERS = 2**32 // _SPACING

Rows = NDArray[np.int64]


def noise_seed(seed: int) -> int:
    """Key of all voters' noise; a member's draw is its number."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def noise_seed_of_tests(seed: int) -> int:
    """Key of the noise on test images; a member's draw is its number, so that no two share any."""
    return int(np.random.SeedSequence([seed, 4]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def member_rows(sampling: Sampling, seed: int, member: int) -> Rows:
    """The rows of the training split that a member sees."""
    return sampling.draw(np.random.default_rng(np.random.SeedSequence([seed, 2, member])))


def member_seed(seed: int, member: int) -> int:
    """Seed of a member's initial weights, batch order and augmentation: all distinct, now and in every later step."""
    first = int(np.random.SeedSequence([seed, 3]).generate_state(1, np.uint32)[0])
    return (first + member * _SPACING) % 2**32


@dataclass(frozen=True, eq=False)
class Voters:
    """How every voter is made. What they have in common was fixed beforehand or comes from trusted data.

    Attributes:
        split: The received training set.
        sampling: How each draws its rows.
        defense: What happens to the rows that it drew; its seed is :func:`noise_seed`.
        build: Training seed to an untrained, or warm-started, model.
        recipe: How it is trained.
        seed: Of everything random.
        tested: ``(T, ...)``: test images, or their features, as models take them; images where there is ``test_defense``.
        features: Images uint8 to what models take; None for whole networks.
        batch_size: Images per denoising batch.
        threads: CPU threads, see :class:`poison_and_defend.training.launch.Threads`.
        watched: Inputs and labels on which each model's best epoch is chosen, once a tenth of its training; None for the last
            epoch.
        test_defense: What happens to test images, for each model by itself; its seed is :func:`noise_seed_of_tests`.
    """

    split: Split
    sampling: Sampling
    defense: Rewriter
    build: Callable[[int], nn.Module]
    recipe: Recipe
    seed: int
    tested: Tensor
    features: Callable[[Tensor], Tensor] | None
    batch_size: int
    threads: int
    watched: tuple[Tensor, Tensor] | None = None
    test_defense: Rewriter | None = None

    def train(self, members: Sequence[int], ranks: Ranks) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        """Train members and let them vote.

        Returns:
            Predicted classes ``(members, T)``, and a fingerprint of what each member trained on, ``(members,)``.
        """
        if max(members, default=0) >= MOST_MEMBERS:
            raise InputError(f"models is above {MOST_MEMBERS}: more have no seeds of their own (--models)")
        data, marks = self.gather(members, ranks)
        return self.vote(members, data, ranks), marks

    def gather(self, members: Sequence[int], ranks: Ranks) -> tuple[EnsembleData, NDArray[np.uint64]]:
        """Draw, noise and denoise what each member trains on, and take its features; with every member's fingerprint."""
        rows = [member_rows(self.sampling, self.seed, member) for member in members]
        pool, labels, marks = self._pool(members, rows, ranks)
        lengths = torch.tensor([len(own) for own in rows])
        # A subsample shorter than the fixed length is gone through again; an empty one, by the blank row at the end.
        places = torch.arange(self.sampling.length)[None] % lengths.clamp_min(1)[:, None]
        places = torch.where(lengths[:, None] > 0, places + (lengths.cumsum(0) - lengths)[:, None], len(pool) - 1)
        return EnsembleData(pool, labels, places), marks

    def vote(self, members: Sequence[int], data: EnsembleData, ranks: Ranks) -> NDArray[np.uint16]:
        """Train members on what was gathered for them; their predictions ``(members, T)``."""
        votes: list[NDArray[np.uint16]] = []
        fit_members(
            self.build,
            [member_seed(self.seed, member) for member in members],
            data,
            self.recipe,
            Ranks(device=ranks.device),
            Fit(per_block=len(members), threads=self.threads, fast=True),
            callbacks=lambda own: [_Vote(self, votes, self._tested_by([members[number] for number in own], ranks.device))],
        )
        return votes[0]

    def _pool(self, members: Sequence[int], rows: Sequence[Rows], ranks: Ranks) -> tuple[Tensor, Tensor, NDArray[np.uint64]]:
        """What all members train on, member after member, and a blank image of class 0 at the end."""
        flat = torch.from_numpy(np.concatenate(rows))
        draws = torch.from_numpy(np.repeat(np.asarray(members, np.int64), [len(own) for own in rows]))
        digests, parts = [], []
        for images in self._sanitized(self.defense, self.split.images, flat, draws, ranks.device):
            digests.append(row_digests(images))
            parts.append(images if self.features is None else self.features(images))
        blank = torch.zeros(1, *self.split.images.shape[1:], dtype=torch.uint8)
        parts.append(blank if self.features is None else self.features(blank))
        labels = torch.cat([self.split.labels[flat], torch.zeros(1, dtype=torch.int64)])
        seen = np.concatenate([*digests, np.zeros(1, np.uint64)])
        starts = np.cumsum([0, *(len(own) for own in rows)])
        sums = [seen[start:stop].sum() for start, stop in pairwise(starts)]
        seeds = [np.uint64(member_seed(self.seed, member)) for member in members]
        return torch.cat(parts), labels, np.array(sums, np.uint64) ^ np.array(seeds, np.uint64)

    def _sanitized(
        self, defense: Rewriter, source: Tensor, rows: Tensor, draws: Tensor, device: torch.device
    ) -> Iterator[Tensor]:
        """The rows of a source, noised and denoised, on the CPU: in batches of constant shape, the last cut to its length."""
        for start in range(0, len(rows), self.batch_size):
            padded = torch.arange(start, start + self.batch_size).clamp_max(len(rows) - 1)
            images = source[rows[padded]].to(device)
            clean = defense(images, rows[padded].to(device), draws[padded].to(device))
            yield clean[: len(rows) - start].cpu()

    def _tested_by(self, members: Sequence[int], device: torch.device) -> Change | None:
        """What each of these members sees of the test images; None where all see the same."""
        if self.test_defense is None:
            return None
        defense, features = self.test_defense, self.features

        def seen(place: int, part: Tensor, rows: Tensor) -> Tensor:
            del part
            draws = torch.full_like(rows, members[place])
            images = self._sanitized(defense, self.tested, rows, draws, device)
            return torch.cat([own if features is None else features(own) for own in images])

        return seen


class _Vote(Callback):
    """Lets every member of an ensemble classify the test images, after its last epoch or as it was at its best one."""

    def __init__(self, voters: Voters, votes: list[NDArray[np.uint16]], seen: Change | None = None) -> None:
        self.voters, self.votes, self.seen = voters, votes, seen
        self.best: Tensor | None = None
        self.predictions: Tensor | None = None

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the votes of members that are better than they were on what is watched, if anything is."""
        epochs, done = int(trainer.max_epochs or 1), trainer.current_epoch + 1
        if self.voters.watched is None or (done % max(1, epochs // 10) and done != epochs):
            return
        inputs, labels = self.voters.watched
        found = (self._predict(pl_module, inputs) == labels).float().mean(1)
        now = self._predict(pl_module, self.voters.tested, self.seen)
        if self.best is None or self.predictions is None:
            self.best, self.predictions = found, now
            return
        better = found > self.best
        self.best = torch.where(better, found, self.best)
        self.predictions = torch.where(better[:, None], now, self.predictions)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the votes over."""
        last = self._predict(pl_module, self.voters.tested, self.seen) if self.predictions is None else self.predictions
        self.votes.append(last.numpy().astype(np.uint16))

    def _predict(self, module: L.LightningModule, inputs: Tensor, seen: Change | None = None) -> Tensor:
        predictions: Tensor = module.member_predictions(inputs, change=seen)  # type: ignore[operator]
        return predictions.cpu()
