"""Many networks as one: parameters stacked along a leading dimension, what each says, and gradients of each one's own loss."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from poison_and_defend.defenses.training.course import State
from poison_and_defend.lightning_modules.member_data import as_float
from poison_and_defend.lightning_modules.member_threads import Workers
from poison_and_defend.lightning_modules.networks.base import evaluating
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.lightning_modules.row_gradients import Factors, head_row_gradients, network_row_gradients
from poison_and_defend.lightning_modules.stacking import can_be_stacked

Change = Callable[[int, Tensor, Tensor], Tensor]
"""Number of a member, inputs ``(n, ...)`` and their places ``(n,)`` to what that member sees instead, of the same shape."""


class MemberStack(nn.Module):
    """M networks of one architecture, in blocks by position, none of which depends on another.

    Where kernels profit (a GPU, or linear heads) a block is one ``torch.func`` call over stacked parameters, unless the network
    cannot be batched; convolutions on a CPU run member by member, since oneDNN's grouped convolution takes more than twice as
    long.

    Args:
        build: Seed to model; called once a member, and once for the template.
        seeds: M member seeds.
        recipe: Whose precision they train in.
        members_per_block: Bounds the memory of one forward and backward pass.
        frozen_statistics: Whether batch normalization keeps the statistics that it came with, also in training mode.
        fast: Whether gradients of linear heads are taken in closed form, and networks on a CPU have threads of their own; both
            round differently than a single model does.

    Attributes:
        blocks: Numbers of the members of each block.
        linear: Whether members are linear heads.
    """

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        seeds: Sequence[int],
        recipe: Recipe,
        members_per_block: int = 16,
        frozen_statistics: bool = False,
        fast: bool = False,
    ) -> None:
        super().__init__()
        self.seeds, self.recipe, self.frozen_statistics = list(seeds), recipe, frozen_statistics
        self.blocks = [range(i, min(i + members_per_block, len(seeds))) for i in range(0, len(seeds), members_per_block)]
        # In a list, so that it is no part of this module's state; whoever trains this may leave the mode as it is made here.
        self._template = [build(0).train(not frozen_statistics)]
        self.linear = isinstance(self._template[0], nn.Linear)
        self._stacks: bool | None = None
        self._closed_form = fast and self.linear
        self._workers = Workers(self._template[0], recipe) if fast and not self.linear else None
        self.parameter_names: list[str] = []
        self.buffer_names: list[str] = []
        self.stacked = nn.ParameterList()
        for number, block in enumerate(self.blocks):
            parameters, buffers = stack_module_state([build(self.seeds[m]) for m in block])
            self.parameter_names, self.buffer_names = list(parameters), list(buffers)
            self.stacked.extend(nn.Parameter(p.detach()) for p in parameters.values())
            for index, buffer in enumerate(buffers.values()):
                self.register_buffer(f"buffer_{number}_{index}", buffer)

    def train(self, mode: bool = True) -> "MemberStack":
        """Training mode for the members too."""
        super().train(mode)
        self._template[0].train(mode and not self.frozen_statistics)
        if self._workers is not None:
            self._workers.close()
        return self

    def block_seeds(self, number: int) -> tuple[int, ...]:
        """Seeds of a block's members."""
        return tuple(self.seeds[member] for member in self.blocks[number])

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
        if not self.training or self.linear:
            return self._logits(number, inputs)
        with self.recipe.computing(inputs.device):
            return self._logits(number, inputs).float()

    def _logits(self, number: int, inputs: Tensor) -> Tensor:
        parameters, buffers = self.block_state(number)
        template = self._template[0]

        def one(own: State, own_buffers: State, images: Tensor) -> Tensor:
            result: Tensor = functional_call(template, (own, own_buffers), (images,))
            return result

        if self.linear or (inputs.device.type != "cpu" and self._can_be_stacked(parameters, buffers, inputs)):
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
        device, blocks = self.stacked[0].device, []
        with evaluating(self):
            for number, block in enumerate(self.blocks):
                parts = []
                for rows in torch.arange(len(inputs)).split(batch_size):
                    part = inputs[rows[0] : rows[-1] + 1]
                    if change is None:
                        seen = as_float(part.to(device))[None].expand(len(block), *part.shape)
                    else:
                        seen = torch.stack([as_float(change(member, part, rows).to(device)) for member in block])
                    parts.append(self.block_logits(number, seen))
                blocks.append(torch.cat(parts, dim=1))
        return torch.cat(blocks)

    def write_gradients(self, number: int, inputs: Tensor, labels: Tensor) -> Tensor:
        """Write the gradients of the mean cross-entropy of each member of a block; returns the sum of their losses.

        Args:
            inputs: ``(m, B, ...)`` float, each member's own batch.
            labels: ``(m, B)`` int64.
        """
        if self._closed_form:
            return self._write_head_gradients(number, inputs, labels)
        if self._workers is not None and inputs.device.type == "cpu":
            return self._workers.gradients(*self.block_state(number), inputs, labels)
        logits = self.block_logits(number, inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _write_head_gradients(self, number: int, inputs: Tensor, labels: Tensor) -> Tensor:
        """The same of linear heads: errors, softmax less one at the label, times inputs."""
        parameters, _ = self.block_state(number)
        weight, bias = parameters["weight"], parameters["bias"]
        scores = torch.baddbmm(bias[:, None], inputs, weight.transpose(1, 2)).log_softmax(2)
        loss = -scores.gather(2, labels[..., None]).sum() / labels.shape[1]
        errors = scores.exp_().scatter_add_(2, labels[..., None], scores.new_tensor(-1.0).expand(*labels.shape, 1))
        errors /= labels.shape[1]
        weight.grad, bias.grad = errors.transpose(1, 2) @ inputs, errors.sum(1)
        return loss

    @torch.no_grad()
    def write_row_gradients(self, number: int, inputs: Tensor, targets: Tensor, factors: Factors) -> Tensor:
        """Write the means of a block's row gradients, each times its factor; returns the sum of its members' losses.

        Args:
            inputs: ``(m, B, ...)`` float, each member's own batch.
            targets: ``(m, B, K)`` float, shares of the classes.
            factors: Norms of the gradients of some rows to their factors, of the same shape.
        """
        parameters, buffers = self.block_state(number)
        if self.linear:
            found, losses = head_row_gradients(parameters, inputs, targets, factors)
        else:
            each = []
            for place, images in enumerate(inputs):
                own, statistics = ({name: value[place] for name, value in part.items()} for part in (parameters, buffers))
                each.append(network_row_gradients(self._template[0], own, statistics, images, targets[place], factors))
            found = {name: torch.stack([gradients[name] for gradients, _ in each]) for name in parameters}
            losses = torch.stack([values for _, values in each])
        for name, value in found.items():
            parameters[name].grad = value
        return losses.mean(1).sum()
