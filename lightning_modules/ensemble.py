"""Many models in one fit: trained together and independent of each other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.training.base import Plain, Training, is_plain
from poison_and_defend.defenses.training.course import State
from poison_and_defend.lightning_modules.classifier import augmented
from poison_and_defend.lightning_modules.member_data import EnsembleData, Indices, MemberOrder, as_float
from poison_and_defend.lightning_modules.member_defense import MemberDefense
from poison_and_defend.lightning_modules.member_stack import Change, MemberStack
from poison_and_defend.lightning_modules.recipe import Recipe


class EnsembleModule(L.LightningModule):
    """M classifiers that a single `ClassifierModule` each would equal, given the same data, recipe and seed.

    Optimisers are elementwise, so that stacking members changes nothing.

    Args:
        build: Seed to model; called once a member.
        seeds: M member seeds: weights, batch order, augmentation.
        data: The members' training sets, in the same order.
        recipe: How all are trained.
        members_per_block: Bounds the memory of one forward and backward pass.
        frozen_statistics: Train in evaluation mode, so that batch normalization keeps the statistics it came with, as
            fine-tuning does in Zhu et al. (2019).
        fast: Linear heads by the gradient in closed form; networks on a CPU channels last, with members of its own for every
            thread instead of a share of every operation. Rounds differently than a single model does, hence not the default.
        defense: What each step of their training does otherwise than the recipe says.
        extractor: Frozen network with ``features`` that stands between images and the members, which are then heads; for
            countermeasures that change images, where features cannot be computed once. None where members take what the pool
            holds.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        seeds: Sequence[int],
        data: EnsembleData,
        recipe: Recipe,
        members_per_block: int = 16,
        frozen_statistics: bool = False,
        fast: bool = False,
        defense: Training | None = None,
        extractor: Surrogate | None = None,
    ) -> None:
        super().__init__()
        self.defense = Plain() if defense is None else defense
        if data.pool.ndim != 4 and self.defense.changes_images:
            raise ValueError(f"{self.defense.name} changes images, and the pool holds their features: give the extractor")
        self.automatic_optimization = False
        self.recipe = recipe
        self.stack = MemberStack(build, seeds, recipe, members_per_block, frozen_statistics, fast)
        # In a list, so that it is no part of this module's state.
        self._extractor = [extractor]
        self._defended: MemberDefense | None = None
        self._data = data
        self._order = MemberOrder(data.rows.shape[1], recipe.batch_size, seeds)
        self._kept: dict[int, Tensor] = {}

    def member_state(self, member: int) -> State:
        """See :meth:`MemberStack.member_state`."""
        return self.stack.member_state(member)

    def member_logits(self, inputs: Tensor, batch_size: int = 512, change: Change | None = None) -> Tensor:
        """See :meth:`MemberStack.member_logits`."""
        return self.stack.member_logits(inputs, batch_size, change)

    def member_predictions(self, images: Tensor, change: Change | None = None) -> Tensor:
        """Predicted classes ``(M, N)``; see :meth:`member_logits`."""
        return self.member_logits(images, change=change).argmax(-1)

    def kept_rows(self) -> Tensor | None:
        """``(M, N)`` bool on the CPU: the rows of their sets that members still train on; None where nothing drops any."""
        return None if self._defended is None else self._defended.kept_rows()

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Index batches for all members at once."""
        return DataLoader(Indices(), batch_size=None, sampler=self._order)

    def on_fit_start(self) -> None:
        """Move the pool to where it is gathered from."""
        moved = {name: getattr(self._data, name).to(self.device) for name in ("pool", "labels", "rows")}
        self._data = replace(self._data, **moved)
        if not is_plain(self.defense):
            self._defended = MemberDefense(self.defense, self.stack, self._data, self.recipe.epochs, self._extractor[0])

    def on_train_epoch_start(self) -> None:
        """Let a countermeasure look at all rows, and leave out those that it keeps no more."""
        if self._defended is not None:
            self._order.kept = self._defended.before_epoch(self.current_epoch)

    def training_step(self, order: Tensor, batch_idx: int) -> None:
        """One step of every member on its own batch; ``order`` is ``(M, B)`` positions in the members' sets."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        positions = [order[block.start : block.stop] for block in self.stack.blocks]
        losses = [self._write_gradients(number, own) for number, own in enumerate(positions)]
        optimizer.step()
        loss = torch.stack(losses).sum() / len(self.stack.seeds)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=1)

    def _write_gradients(self, number: int, positions: Tensor) -> Tensor:
        """Write the gradients of a block's step on rows at ``(m, B)`` positions; returns the sum of its members' losses."""
        block, augment = self.stack.blocks[number], partial(self._augmented, number)
        rows = self._data.rows[block.start : block.stop].gather(1, positions)
        inputs, labels = self._inputs(number, rows), self._data.labels[rows]
        if self._defended is None:
            return self.stack.write_gradients(number, augment(inputs), labels)
        step = self._defended.step(number, inputs, labels, positions, self._step, self.current_epoch)
        return self._defended.write_gradients(number, step, augment)

    def _augmented(self, number: int, inputs: Tensor) -> Tensor:
        """Random views of a block's images; features as they are."""
        if self._data.pool.ndim != 4:
            return inputs
        seeds = self.stack.block_seeds(number)
        return augmented(inputs.flatten(0, 1), self.recipe, seeds, self._step).unflatten(0, inputs.shape[:2])

    def _inputs(self, number: int, own: Tensor) -> Tensor:
        """``(m, B, ...)`` float: what a block's members see of the rows ``own`` in this step."""
        data = self._data
        if number in self._kept:
            return self._kept[number]
        inputs = as_float(data.pool[own + self._views(number, own.shape[1]).to(own) * len(data.labels)])
        whole = own.shape[1] == data.rows.shape[1] and self._order.kept is None
        if data.pool.ndim != 4 and data.views == 1 and whole:
            # Features of whole sets are the same in every step.
            self._kept[number] = inputs
        return inputs

    def _views(self, number: int, width: int) -> Tensor:
        """``(m, B)`` int64: which cached view of each row a block's members take in this step."""
        views, seeds = self._data.views, self.stack.block_seeds(number)
        if views == 1:
            return torch.zeros(len(seeds), width, dtype=torch.int64)
        return torch.stack([torch.randint(views, (width,), generator=step_generator(seed, self._step)) for seed in seeds])

    @property
    def _step(self) -> int:
        """Steps taken so far; one optimiser, so that the trainer's count is the members' own."""
        return int(self.global_step)

    def on_train_epoch_end(self) -> None:
        """Advance the schedule, which manual optimisation leaves to the module."""
        scheduler: Any = self.lr_schedulers()
        scheduler.step()

    def configure_optimizers(self) -> Any:
        """One optimiser over all stacked parameters."""
        optimizer = self.recipe.build_optimizer(self.stack.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.recipe.build_scheduler(optimizer)}
