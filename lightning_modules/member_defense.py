"""What a training recipe does to the members of an ensemble: what it is given of a step and of an epoch, what comes of it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.second_order import twice_differentiable
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.defenses.training.base import Training, overrides, own_losses
from poison_and_defend.defenses.training.course import Epoch, State, Step
from poison_and_defend.lightning_modules.member_data import EnsembleData, as_float
from poison_and_defend.lightning_modules.member_stack import MemberStack
from poison_and_defend.lightning_modules.networks.base import evaluating


class MemberDefense:
    """A training recipe at work on a stack of members, with what it remembers of each block of them.

    Args:
        defense: The recipe.
        stack: The members.
        data: Their training sets, on the device that they are on.
        epochs: How many there will be.
        extractor: Frozen network with ``features`` that stands between images and members that are heads; None where members
            take what the pool holds.
    """

    def __init__(
        self, defense: Training, stack: MemberStack, data: EnsembleData, epochs: int, extractor: Surrogate | None
    ) -> None:
        self.defense, self.stack, self.data, self.epochs, self.extractor = defense, stack, data, epochs, extractor
        members, rows, device = len(stack.blocks[0]), data.rows.shape[1], data.pool.device
        with torch.no_grad():
            first = as_float(data.pool[:1])[None].expand(members, 1, *data.pool.shape[1:])
            self._num_classes = self._evaluated(0, first).shape[-1]
        begun = [defense.begin(len(block), rows) for block in stack.blocks]
        self._states = [{name: value.to(device) for name, value in state.items()} for state in begun]

    def before_epoch(self, epoch: int) -> Tensor | None:
        """Let the recipe look at all rows; returns those that are still trained on, see :meth:`kept_rows`."""
        if overrides(self.defense, "between_epochs"):
            for number in range(len(self.stack.blocks)):
                self.defense.between_epochs(self._epoch(number, epoch))
        return self.kept_rows()

    def kept_rows(self) -> Tensor | None:
        """``(M, N)`` bool on the CPU: the rows of their sets that members still train on; None where nothing drops any."""
        kept = [self.defense.kept(state) for state in self._states]
        found = [rows for rows in kept if rows is not None]
        return torch.cat(found).cpu() if found else None

    def step(self, number: int, inputs: Tensor, labels: Tensor, positions: Tensor, taken: int, epoch: int) -> Step:
        """What the recipe is given of one block's step, before images are augmented.

        Args:
            number: Of the block.
            inputs: ``(m, B, ...)`` float, each member's own batch.
            labels: ``(m, B)`` int64.
            positions: ``(m, B)`` int64, of these rows in the members' sets.
            taken: How many steps came before.
            epoch: That the step belongs to, from 0.
        """
        return Step(
            inputs=inputs,
            labels=labels,
            rows=positions,
            seeds=self.stack.block_seeds(number),
            number=taken,
            num_classes=self._num_classes,
            logits=partial(self._evaluated, number),
            state=self._states[number],
            gradients=partial(self._parameter_gradients, number),
            epoch=epoch,
        )

    def write_gradients(self, number: int, step: Step, augment: Callable[[Tensor], Tensor]) -> Tensor:
        """Write the gradients of a block's step as the recipe would have them; returns the sum of its members' losses.

        Args:
            number: Of the block.
            step: As :meth:`step` gave it.
            augment: Inputs ``(m, B, ...)`` to random views of them.
        """
        step = self.defense.unaugmented(step)
        step = self.defense.inputs(replace(step, inputs=augment(step.inputs)))
        if overrides(self.defense, "row_factors"):
            inputs, factors = self._seen(step.inputs), self.defense.row_factors
            loss = self.stack.write_row_gradients(number, inputs, step.shares(), factors)
        elif own_losses(self.defense, step) or self.extractor is not None:
            loss = self._write_own(number, step)
        else:
            loss = self.stack.write_gradients(number, step.inputs, step.labels)
        if overrides(self.defense, "gradient"):
            self._reshape_gradients(number, step)
        return loss

    def _write_own(self, number: int, step: Step) -> Tensor:
        """Write the gradients of a block whose loss is the recipe's own; returns the sum of its members' losses."""
        logits = self.stack.block_logits(number, self._seen(step.inputs))
        loss = self.defense.losses(logits, step).sum() / step.labels.shape[1]
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _reshape_gradients(self, number: int, step: Step) -> None:
        """Let the recipe change what a block's optimiser is given."""
        parameters, _ = self.stack.block_state(number)
        found = {name: value.grad for name, value in parameters.items() if value.grad is not None}
        for name, value in self.defense.gradient(found, step).items():
            parameters[name].grad = value

    def _epoch(self, number: int, epoch: int) -> Epoch:
        """What the recipe may look at before an epoch of one block."""
        data, block = self.data, self.stack.blocks[number]
        places = data.rows[block.start : block.stop]
        return Epoch(
            number=epoch,
            epochs=self.epochs,
            labels=data.labels[places],
            places=places,
            seeds=self.stack.block_seeds(number),
            num_classes=self._num_classes,
            heads=self.stack.linear,
            inputs=lambda positions: as_float(data.pool[places[:, positions.to(places.device)]]),
            logits=partial(self._evaluated, number),
            state=self._states[number],
        )

    def _seen(self, images: Tensor) -> Tensor:
        """What members take: images ``(m, B, C, H, W)``, or their features where an extractor stands before them."""
        if self.extractor is None:
            return images
        return self.extractor.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def _evaluated(self, number: int, images: Tensor) -> Tensor:
        """Logits of a block's members in evaluation mode."""
        with evaluating(self.stack):
            return self.stack.block_logits(number, self._seen(images))

    def _parameter_gradients(self, number: int, losses: Tensor) -> State:
        """Gradients of ``(m,)`` losses, each by its member's parameters, as a function that can be differentiated again."""
        parameters, _ = self.stack.block_state(number)
        with twice_differentiable():
            found = torch.autograd.grad(losses.sum(), list(parameters.values()), create_graph=True, materialize_grads=True)
        return dict(zip(parameters, found, strict=True))
