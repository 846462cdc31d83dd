"""Many models in one fit: parameters stacked along a leading dimension, trained together and independent of each other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional
from torch.utils.data import DataLoader

from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.training.base import Plain, State, Step, Training, is_plain, own_losses
from poison_and_defend.lightning_modules.classifier import augmented, evaluating
from poison_and_defend.lightning_modules.member_data import EnsembleData, Indices, MemberOrder
from poison_and_defend.lightning_modules.member_threads import Workers
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.stacking import can_be_stacked

Change = Callable[[int, Tensor, Tensor], Tensor]
"""Number of a member, inputs ``(n, ...)`` and their places ``(n,)`` to what that member sees instead, of the same shape."""


class EnsembleModule(L.LightningModule):
    """M classifiers that a single `ClassifierModule` each would equal, given the same data, recipe and seed.

    Members are grouped in blocks by position. Where kernels profit (a GPU, or linear heads) a block is one ``torch.func``
    call over stacked parameters, unless the network cannot be batched; convolutions on a CPU run member by member, since
    oneDNN's grouped convolution takes more than twice as long. Optimisers are elementwise, so that stacking changes nothing.

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
        if data.pool.ndim != 4 and not is_plain(self.defense):
            raise ValueError(f"{self.defense.name} changes images, and the pool holds their features: give the extractor")
        self.automatic_optimization = False
        # In a list, so that it is no part of this module's state.
        self._extractor = [extractor]
        self._states: list[State] = []
        self._num_classes = 0
        self.seeds, self.recipe, self.frozen_statistics = list(seeds), recipe, frozen_statistics
        self.blocks = [range(i, min(i + members_per_block, len(seeds))) for i in range(0, len(seeds), members_per_block)]
        # In a list, so that the template and the pool are no part of this module's state.
        self._data = [data]
        # The Trainer leaves the mode as it finds it, so that it is set here and not by `train` alone.
        self._template = [build(0).train(not frozen_statistics)]
        self._kept: dict[int, Tensor] = {}
        self._linear = isinstance(self._template[0], nn.Linear)
        self._stacks: bool | None = None
        self._closed_form = fast and self._linear
        self._workers = Workers(self._template[0], recipe) if fast and not self._linear else None
        self.parameter_names: list[str] = []
        self.buffer_names: list[str] = []
        self.stacked = nn.ParameterList()
        for number, block in enumerate(self.blocks):
            parameters, buffers = stack_module_state([build(self.seeds[m]) for m in block])
            self.parameter_names, self.buffer_names = list(parameters), list(buffers)
            self.stacked.extend(nn.Parameter(p.detach()) for p in parameters.values())
            for index, buffer in enumerate(buffers.values()):
                self.register_buffer(f"buffer_{number}_{index}", buffer)

    def train(self, mode: bool = True) -> "EnsembleModule":
        """Training mode for the members too."""
        super().train(mode)
        self._template[0].train(mode and not self.frozen_statistics)
        if self._workers is not None:
            self._workers.close()
        return self

    def block_state(self, number: int) -> tuple[State, State]:
        """Stacked parameters and buffers of a block, by name."""
        width = len(self.parameter_names)
        parameters = dict(zip(self.parameter_names, list(self.stacked)[number * width : (number + 1) * width], strict=True))
        buffers = {name: getattr(self, f"buffer_{number}_{i}") for i, name in enumerate(self.buffer_names)}
        return parameters, buffers

    def member_state(self, member: int) -> State:
        """State of one member, as its own module would save it."""
        number = next(n for n, block in enumerate(self.blocks) if member in block)
        place = member - self.blocks[number].start
        parameters, buffers = self.block_state(number)
        persistent = set(self._template[0].state_dict())
        return {k: v[place].detach().cpu().clone() for k, v in (parameters | buffers).items() if k in persistent}

    def block_logits(self, number: int, inputs: Tensor) -> Tensor:
        """Logits ``(m, B, classes)`` of a block's m members; while they train, in the recipe's precision.

        Args:
            inputs: ``(m, B, ...)`` float, each member's own batch.
        """
        if not self.training or self._linear:
            return self._logits(number, inputs)
        with self.recipe.computing(inputs.device):
            return self._logits(number, inputs).float()

    def _logits(self, number: int, inputs: Tensor) -> Tensor:
        parameters, buffers = self.block_state(number)
        template = self._template[0]

        def one(own: State, own_buffers: State, images: Tensor) -> Tensor:
            result: Tensor = functional_call(template, (own, own_buffers), (images,))
            return result

        if self._linear or (inputs.device.type != "cpu" and self._can_be_stacked(parameters, buffers, inputs)):
            stacked: Tensor = vmap(one, randomness="different")(parameters, buffers, inputs)
            return stacked
        if self._workers is not None and not torch.is_grad_enabled():
            return torch.stack(self._workers.outputs(parameters, buffers, inputs))
        # unbind, not indexing: its gradient is one stack, not one zero-filled tensor a member.
        split = {name: parameter.unbind(0) for name, parameter in parameters.items()}
        return torch.stack(
            [
                one({k: v[i] for k, v in split.items()}, {k: v[i] for k, v in buffers.items()}, self.recipe.laid_out(inputs[i]))
                for i in range(len(inputs))
            ]
        )

    def _can_be_stacked(self, parameters: State, buffers: State, inputs: Tensor) -> bool:
        """Tried once, on the first batch."""
        if self._stacks is None:
            self._stacks = can_be_stacked(self._template[0], parameters, buffers, inputs)
        return self._stacks

    @torch.no_grad()
    def member_logits(self, inputs: Tensor, batch_size: int = 512, change: Change | None = None) -> Tensor:
        """Logits ``(M, N, classes)`` of shared inputs ``(N, ...)``, uint8 images or float features, in evaluation mode.

        Args:
            change: What a member sees in place of a part of the inputs, where members do not see the same.
        """
        was_training = self.training
        self.eval()
        blocks = []
        for number, block in enumerate(self.blocks):
            parts = []
            for rows in torch.arange(len(inputs)).split(batch_size):
                part = inputs[rows[0] : rows[-1] + 1]
                if change is None:
                    seen = _as_float(part.to(self.device))[None].expand(len(block), *part.shape)
                else:
                    seen = torch.stack([_as_float(change(member, part, rows).to(self.device)) for member in block])
                parts.append(self.block_logits(number, seen))
            blocks.append(torch.cat(parts, dim=1))
        self.train(was_training)
        return torch.cat(blocks)

    def member_predictions(self, images: Tensor, change: Change | None = None) -> Tensor:
        """Predicted classes ``(M, N)``; see :meth:`member_logits`."""
        return self.member_logits(images, change=change).argmax(-1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Index batches for all members at once."""
        order = MemberOrder(self._data[0].rows.shape[1], self.recipe.batch_size, self.seeds)
        return DataLoader(Indices(), batch_size=None, sampler=order)

    def on_fit_start(self) -> None:
        """Move the pool to where it is gathered from."""
        data = self._data[0]
        moved = {name: getattr(data, name).to(self.device) for name in ("pool", "labels", "rows")}
        self._data[0] = replace(data, **moved)
        if is_plain(self.defense):
            return
        rows = data.rows.shape[1]
        with torch.no_grad(), evaluating(self):
            inputs = self._seen(_as_float(self._data[0].pool[:1])[None].expand(len(self.blocks[0]), 1, *data.pool.shape[1:]))
            self._num_classes = self.block_logits(0, inputs).shape[-1]
        begun = [self.defense.begin(len(block), rows) for block in self.blocks]
        self._states = [{name: value.to(self.device) for name, value in state.items()} for state in begun]

    def training_step(self, order: Tensor, batch_idx: int) -> None:
        """One step of every member on its own batch; ``order`` is ``(M, B)`` positions in the members' sets."""
        data = self._data[0]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        rows = data.rows.gather(1, order)
        losses = []
        for number, block in enumerate(self.blocks):
            own = rows[block.start : block.stop]
            inputs = self._inputs(number, own)
            if data.pool.ndim == 4:
                seeds = self.seeds[block.start : block.stop]
                inputs = augmented(inputs.flatten(0, 1), self.recipe, seeds, self._step).unflatten(0, own.shape)
            if not is_plain(self.defense):
                step = self.defense.inputs(self._defended(number, inputs, data.labels[own], order[block.start : block.stop]))
                if own_losses(self.defense, step) or self._extractor[0] is not None:
                    losses.append(self._descend(number, step))
                    continue
                inputs = step.inputs
            if self._closed_form:
                losses.append(self._head_gradients(number, inputs, data.labels[own]))
                continue
            if self._workers is not None and inputs.device.type == "cpu":
                losses.append(self._workers.gradients(*self.block_state(number), inputs, data.labels[own]))
                continue
            logits = self.block_logits(number, inputs)
            loss = functional.cross_entropy(logits.flatten(0, 1), data.labels[own].flatten(), reduction="sum") / own.shape[1]
            self.manual_backward(loss)
            losses.append(loss.detach())
        optimizer.step()
        self.log("train/loss", torch.stack(losses).sum() / len(self.seeds), on_step=False, on_epoch=True, batch_size=1)

    def _defended(self, number: int, inputs: Tensor, labels: Tensor, positions: Tensor) -> Step:
        """What a countermeasure is given of one block's step."""
        block = self.blocks[number]

        def logits(images: Tensor) -> Tensor:
            with evaluating(self):
                return self.block_logits(number, self._seen(images))

        seeds, state = tuple(self.seeds[block.start : block.stop]), self._states[number]
        return Step(inputs, labels, positions, seeds, self._step, self._num_classes, logits, state=state)

    def _descend(self, number: int, step: Step) -> Tensor:
        """Write the gradients of a block whose loss is a countermeasure's own; returns the sum of its members' losses."""
        loss = self.defense.losses(self.block_logits(number, self._seen(step.inputs)), step).sum() / step.labels.shape[1]
        self.manual_backward(loss)
        return loss.detach()

    def _seen(self, images: Tensor) -> Tensor:
        """What members take: images ``(m, B, C, H, W)``, or their features where an extractor stands before them."""
        extractor = self._extractor[0]
        if extractor is None:
            return images
        return extractor.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    @torch.no_grad()
    def _head_gradients(self, number: int, inputs: Tensor, labels: Tensor) -> Tensor:
        """Write the gradients of a block of linear heads, softmax less one at the label; returns the sum of their losses."""
        parameters, _ = self.block_state(number)
        weight, bias = parameters["weight"], parameters["bias"]
        scores = torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2)).log_softmax(2)
        loss = -scores.gather(2, labels[..., None]).sum() / labels.shape[1]
        errors = scores.exp_().scatter_add_(2, labels[..., None], scores.new_tensor(-1.0).expand(*labels.shape, 1))
        errors /= labels.shape[1]
        weight.grad, bias.grad = errors.transpose(1, 2) @ inputs, errors.sum(1)
        return loss

    def _inputs(self, number: int, own: Tensor) -> Tensor:
        """``(m, B, ...)`` float: what a block's members see of the rows ``own`` in this step."""
        data = self._data[0]
        if number in self._kept:
            return self._kept[number]
        inputs = _as_float(data.pool[own + self._views(self.blocks[number], own.shape[1]).to(own) * len(data.labels)])
        if data.pool.ndim != 4 and data.views == 1 and own.shape[1] == data.rows.shape[1]:
            # Features of whole sets are the same in every step.
            self._kept[number] = inputs
        return inputs

    def _views(self, block: range, width: int) -> Tensor:
        """``(m, B)`` int64: which cached view of each row the members take in this step."""
        views = self._data[0].views
        if views == 1:
            return torch.zeros(len(block), width, dtype=torch.int64)
        drawn = [torch.randint(views, (width,), generator=step_generator(self.seeds[m], self._step)) for m in block]
        return torch.stack(drawn)

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
        optimizer = self.recipe.build_optimizer(self.stacked.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.recipe.build_scheduler(optimizer)}


def _as_float(inputs: Tensor) -> Tensor:
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
