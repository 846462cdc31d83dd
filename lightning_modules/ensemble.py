"""Many models in one fit: parameters stacked along a leading dimension, trained together and independent of each other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional
from torch.utils.data import DataLoader

from poison_and_defend.attacks.crafting.second_order import twice_differentiable
from poison_and_defend.attacks.threat.surrogate import Surrogate
from poison_and_defend.core.streams import step_generator
from poison_and_defend.defenses.training.base import Epoch, Plain, State, Step, Training, is_plain, overrides, own_losses
from poison_and_defend.lightning_modules.classifier import augmented, evaluating
from poison_and_defend.lightning_modules.member_data import EnsembleData, Indices, MemberOrder
from poison_and_defend.lightning_modules.member_threads import Workers
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.row_gradients import head_row_gradients, network_row_gradients
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
        if data.pool.ndim != 4 and self.defense.changes_images:
            raise ValueError(f"{self.defense.name} changes images, and the pool holds their features: give the extractor")
        self.automatic_optimization = False
        # In a list, so that it is no part of this module's state.
        self._extractor = [extractor]
        self._states: list[State] = []
        self._num_classes = 0
        self._order = MemberOrder(data.rows.shape[1], recipe.batch_size, seeds)
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
        return DataLoader(Indices(), batch_size=None, sampler=self._order)

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

    def on_train_epoch_start(self) -> None:
        """Let a countermeasure look at all rows, and leave out those that it keeps no more."""
        if is_plain(self.defense):
            return
        if overrides(self.defense, "between_epochs"):
            for number in range(len(self.blocks)):
                self.defense.between_epochs(self._epoch(number))
        self._order.kept = self.kept_rows()

    def kept_rows(self) -> Tensor | None:
        """``(M, N)`` bool on the CPU: the rows of their sets that members still train on; None where nothing drops any."""
        kept = [self.defense.kept(state) for state in self._states]
        found = [rows for rows in kept if rows is not None]
        return torch.cat(found).cpu() if found else None

    def training_step(self, order: Tensor, batch_idx: int) -> None:
        """One step of every member on its own batch; ``order`` is ``(M, B)`` positions in the members' sets."""
        data = self._data[0]
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        rows = data.rows.gather(1, order)
        losses = []
        for number, block in enumerate(self.blocks):
            own, labels = rows[block.start : block.stop], data.labels[rows[block.start : block.stop]]
            inputs = self._inputs(number, own)
            if is_plain(self.defense):
                losses.append(self._descend(number, self._augmented(number, inputs), labels))
                continue
            step = self._defended(number, inputs, labels, order[block.start : block.stop])
            step = self.defense.unaugmented(step)
            step = self.defense.inputs(replace(step, inputs=self._augmented(number, step.inputs)))
            if overrides(self.defense, "row_factors"):
                losses.append(self._descend_by_rows(number, step))
            elif own_losses(self.defense, step) or self._extractor[0] is not None:
                losses.append(self._descend_own(number, step))
            else:
                losses.append(self._descend(number, step.inputs, labels))
            if overrides(self.defense, "gradient"):
                self._reshape_gradients(number, step)
        optimizer.step()
        self.log("train/loss", torch.stack(losses).sum() / len(self.seeds), on_step=False, on_epoch=True, batch_size=1)

    def _augmented(self, number: int, inputs: Tensor) -> Tensor:
        """Random views of a block's images; features as they are."""
        if self._data[0].pool.ndim != 4:
            return inputs
        block = self.blocks[number]
        seeds = self.seeds[block.start : block.stop]
        return augmented(inputs.flatten(0, 1), self.recipe, seeds, self._step).unflatten(0, inputs.shape[:2])

    def _descend(self, number: int, inputs: Tensor, labels: Tensor) -> Tensor:
        """Write the gradients of a block's mean cross-entropies; returns the sum of its members' losses."""
        if self._closed_form:
            return self._head_gradients(number, inputs, labels)
        if self._workers is not None and inputs.device.type == "cpu":
            return self._workers.gradients(*self.block_state(number), inputs, labels)
        logits = self.block_logits(number, inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
        self.manual_backward(loss)
        return loss.detach()

    def _defended(self, number: int, inputs: Tensor, labels: Tensor, positions: Tensor) -> Step:
        """What a countermeasure is given of one block's step."""
        return Step(
            inputs=inputs,
            labels=labels,
            rows=positions,
            seeds=self._seeds(number),
            number=self._step,
            num_classes=self._num_classes,
            logits=partial(self._evaluated, number),
            state=self._states[number],
            gradients=partial(self._parameter_gradients, number),
            epoch=self.current_epoch,
        )

    def _epoch(self, number: int) -> Epoch:
        """What a countermeasure may look at before an epoch of one block."""
        data, block = self._data[0], self.blocks[number]
        places = data.rows[block.start : block.stop]
        return Epoch(
            number=self.current_epoch,
            epochs=self.recipe.epochs,
            labels=data.labels[places],
            places=places,
            seeds=self._seeds(number),
            num_classes=self._num_classes,
            heads=self._linear,
            inputs=lambda positions: _as_float(data.pool[places[:, positions.to(places.device)]]),
            logits=partial(self._evaluated, number),
            state=self._states[number],
        )

    def _seeds(self, number: int) -> tuple[int, ...]:
        block = self.blocks[number]
        return tuple(self.seeds[block.start : block.stop])

    def _evaluated(self, number: int, images: Tensor) -> Tensor:
        """Logits of a block's members in evaluation mode."""
        with evaluating(self):
            return self.block_logits(number, self._seen(images))

    def _parameter_gradients(self, number: int, losses: Tensor) -> State:
        """Gradients of ``(m,)`` losses, each by its member's parameters, as a function that can be differentiated again."""
        parameters, _ = self.block_state(number)
        with twice_differentiable():
            found = torch.autograd.grad(losses.sum(), list(parameters.values()), create_graph=True, materialize_grads=True)
        return dict(zip(parameters, found, strict=True))

    @torch.no_grad()
    def _reshape_gradients(self, number: int, step: Step) -> None:
        """Let a countermeasure change what a block's optimiser is given."""
        parameters, _ = self.block_state(number)
        found = {name: value.grad for name, value in parameters.items() if value.grad is not None}
        for name, value in self.defense.gradient(found, step).items():
            parameters[name].grad = value

    @torch.no_grad()
    def _descend_by_rows(self, number: int, step: Step) -> Tensor:
        """Write the means of a block's row gradients, each times its factor; returns the sum of its members' losses."""
        parameters, buffers = self.block_state(number)
        targets, factors = step.shares(), self.defense.row_factors
        if self._linear:
            found, losses = head_row_gradients(parameters, self._seen(step.inputs), targets, factors)
        else:
            each = []
            for place, images in enumerate(step.inputs):
                own, statistics = ({name: value[place] for name, value in part.items()} for part in (parameters, buffers))
                each.append(network_row_gradients(self._template[0], own, statistics, images, targets[place], factors))
            found = {name: torch.stack([gradients[name] for gradients, _ in each]) for name in parameters}
            losses = torch.stack([values for _, values in each])
        for name, value in found.items():
            parameters[name].grad = value
        return losses.mean(1).sum()

    def _descend_own(self, number: int, step: Step) -> Tensor:
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
        whole = own.shape[1] == data.rows.shape[1] and self._order.kept is None
        if data.pool.ndim != 4 and data.views == 1 and whole:
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
