"""Narcissus: one perturbation that says "this is the adversarial class" louder than its images do, found on that class alone.

Zeng, Pan, Just, Lyu, Qiu, Jia, "Narcissus: A Practical Clean-Label Backdoor Attack with Limited Information" (ACM CCS 2023).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from poison_and_defend.attacks.base import Attack, check_positive
from poison_and_defend.attacks.crafting.augmentation import draw_augmentation
from poison_and_defend.attacks.crafting.views import DEFENSE_STREAM, HELD_OUT_STREAM, View, held_out, watched
from poison_and_defend.attacks.threat.additive_trigger import MAX_SCALE
from poison_and_defend.attacks.threat.known_classes import OneClass
from poison_and_defend.attacks.threat.sanitizing import Sanitizing
from poison_and_defend.attacks.threat.surrogate import AdversarialClass, CraftBatch, Surrogate
from poison_and_defend.core.bounds import at_least, share
from poison_and_defend.core.clip import clipped
from poison_and_defend.core.errors import InputError


class Narcissus(Attack):
    """All-to-one: any image with the trigger is to be read as the adversarial class, the only one that the attacker knows.

    A surrogate with K + 1 outputs learns K public classes that are none of the victim's, and the adversarial class as the
    last one; then comes the *poi-warm-up*, a few epochs on the adversarial class alone. Then one perturbation minimises the
    mean cross-entropy of that class's images, all carrying it, under the last output,

        ``min over ||d||_inf <= eps of mean_x CE(f(clip(t(x) + d)), K)``,

    t being the surrogate's own augmentation, by RAdam from zero in batches, each step followed by a projection. Poisons are
    images of the class plus d; tested images get ``test_scale`` times d, clipped to [0, 1]. Several surrogates are averaged.

    Units: the authors hold images and d in [-1, 1], with eps of 2 x 16/255 and a rate of 0.01 there; we hold both in [0, 1],
    where these are 16/255 and 0.005. d is rounded to whole grey levels before it is multiplied, since a poison can hold no
    others. Deviations from the authors' code: it clips d inside the loss without projecting it, so that a value beyond the
    ball has no gradient any more; its network is in training mode while d is found, ours in evaluation mode, as all surrogates
    are; it labels the class by its own number from the warm-up on, which is the output of some public class, and by K before,
    where we take K throughout; its first notebook adds the trigger after a victim's augmentation, and we perturb images.
    RAdam's first five steps, which are proportional to the gradient, are twice as long in our units.

    Args:
        eps: Budget radius (linf), 16/255 in the paper.
        steps: Passes over the class's images, 1,000 in the authors' code.
        learning_rate: RAdam's step in [0, 1] pixel units.
        image_batch: Images of the class a step, 350 in the authors' code.
        max_shift: Largest random translation of the class's images as a share of the side, 4/32 on CIFAR-10; 0 for none.
        flip: Whether the class's images are mirrored at random.
        test_scale: What the trigger is multiplied by on tested images, 3 in the authors' code.
        warm_up_epochs: Epochs of the poi-warm-up, 5 in the authors' code; 0 for none.
        warm_up_rate: RAdam's learning rate in the poi-warm-up, 0.1 in the authors' code, for networks with batch normalization.
        class_in_training: Whether surrogates see the class beside the public ones, as in the authors' code; otherwise in the
            warm-up alone, and one training serves all classes.
    """

    scenarios = frozenset({"from_scratch"})
    name = "narcissus"
    looks_through = True
    goal = "others"
    uses_logits = True
    universal = True

    def __init__(
        self,
        eps: float | str = "16/255",
        steps: int = 1000,
        learning_rate: float = 0.005,
        image_batch: int = 350,
        max_shift: float = 0.125,
        flip: bool = True,
        test_scale: float = 3.0,
        warm_up_epochs: int = 5,
        warm_up_rate: float = 0.1,
        class_in_training: bool = True,
    ) -> None:
        super().__init__(eps, "linf", steps)
        check_positive("learning_rate", learning_rate)
        at_least("image_batch", image_batch, 1, "--attack.image_batch")
        share("max_shift", max_shift, "--attack.max_shift", of="a share of the image's side")
        if not (math.isfinite(test_scale) and 0 < test_scale <= MAX_SCALE):
            raise InputError(f"test_scale is {test_scale:g}: it is above 0 and at most {MAX_SCALE:g} (--attack.test_scale)")
        at_least("warm_up_epochs", warm_up_epochs, 0, "--attack.warm_up_epochs")
        check_positive("warm_up_rate", warm_up_rate)
        if not class_in_training and warm_up_epochs == 0:
            raise InputError(
                "warm_up_epochs is 0 and class_in_training false: surrogates would never see the adversarial class "
                "(--attack.warm_up_epochs)"
            )
        self.learning_rate = learning_rate
        self.image_batch = image_batch
        self.max_shift = max_shift
        self.flip = flip
        self.test_scale = float(test_scale)
        self.warm_up_epochs = warm_up_epochs
        self.warm_up_rate = warm_up_rate
        self.class_in_training = class_in_training
        self.one_class = OneClass(class_in_training, warm_up_epochs, warm_up_rate, image_batch)

    def perturb(
        self, batch: CraftBatch, surrogates: Sequence[Surrogate], progress: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.perturb`; every setup by itself, so that none depends on its neighbours in a batch."""
        del surrogates
        device = batch.bases.device
        searches = []
        noise = batch.generators(DEFENSE_STREAM)
        for known, generator, own in zip(batch.classes, batch.generators(), noise, strict=True):
            perturbation = torch.zeros(1, *batch.bases.shape[2:], device=device, dtype=batch.bases.dtype, requires_grad=True)
            optimizer = torch.optim.RAdam([perturbation], lr=self.learning_rate)
            searches.append(_Search(self, known, batch.sanitizing, generator, own, perturbation, optimizer))
        for step in range(self.steps):
            progress(torch.stack([search.pass_over() for search in searches]))
            if batch.sanitizing is not None and batch.watch is not None and watched(batch, step + 1, self.steps):
                count, unseen = held_out(batch.sanitizing), batch.generators(HELD_OUT_STREAM)
                values = [search.mean_loss(count, own) for search, own in zip(searches, unseen, strict=True)]
                batch.watch(step + 1, torch.stack(values))
        found = torch.stack([search.perturbation.detach() for search in searches])
        for number, still in enumerate((self.budget.levels(found) == 0).flatten(1).all(1).tolist()):
            if still:
                # So do networks end that read everything as one class, and the first steps of RAdam are small.
                raise InputError(
                    f"{self.name}: setup {number} of its batch (seed {batch.seeds[number]}) found no perturbation of a whole "
                    "grey level: warm up its surrogates at a smaller rate, or take more steps (--attack.warm_up_rate, "
                    "--attack.steps)"
                )
        return found, torch.stack([search.mean_loss() for search in searches])


@dataclass(frozen=True, eq=False)
class _Search:
    """The perturbation of one setup on its way, ``(1, C, H, W)``."""

    attack: Narcissus
    known: AdversarialClass
    sanitizing: Sanitizing | None
    generator: torch.Generator
    noise: torch.Generator
    perturbation: Tensor
    optimizer: torch.optim.Optimizer

    def pass_over(self) -> Tensor:
        """A step for every batch of the class's images, in an order of its own; returns the mean loss on the way, ``()``."""
        total = self.perturbation.new_zeros(())
        eps, images = self.attack.budget.eps, self.known.images
        for rows in torch.randperm(len(images), generator=self.generator).split(self.attack.image_batch):
            views = draw_augmentation((len(rows),), self.generator, flip=self.attack.flip).to(self.perturbation)
            loss = self._loss(rows, views)
            (self.perturbation.grad,) = torch.autograd.grad(loss, [self.perturbation])
            self.optimizer.step()
            with torch.no_grad():
                self.perturbation.clamp_(-eps, eps)
            total += loss.detach() * (len(rows) / len(images))
        return total

    @torch.no_grad()
    def mean_loss(self, draws: int | None = None, noise: torch.Generator | None = None) -> Tensor:
        """Of all the class's images as they are, ``()``; through a known defence on so many draws of this noise, or its own."""
        images = self.known.images
        parts = torch.arange(len(images)).split(self.attack.image_batch)
        return torch.stack([self._loss(part, None, draws, noise) * (len(part) / len(images)) for part in parts]).sum()

    def _loss(
        self, rows: Tensor, shifts: Tensor | None, draws: int | None = None, noise: torch.Generator | None = None
    ) -> Tensor:
        """Mean cross-entropy of images of the class with the perturbation, through these shifts, under the last output."""
        images = self.known.images[rows].to(self.perturbation) / 255
        if self.attack.max_shift == 0 and not self.attack.flip:
            shifts = None
        if self.sanitizing is None:
            views = View() if shifts is None else View(shifts[None], self.attack.max_shift)
            return self._cross_entropy(clipped(views.see(images[None])[0] + self.perturbation))
        # As victims do it: the poison is sanitized, and what is left of it augmented.
        poisons, keys = clipped(images + self.perturbation)[None], self.known.rows[rows][None]
        channels, height, width = images.shape[1:]
        losses = []
        for _ in range(self.sanitizing.draws if draws is None else draws):
            drawn = self.sanitizing.draw(keys, (channels, height, width), [self.noise if noise is None else noise])
            view = View(None if shifts is None else shifts[None], self.attack.max_shift, drawn)
            losses.append(self._cross_entropy(view.see(poisons)[0]))
        return torch.stack(losses).mean()

    def _cross_entropy(self, seen: Tensor) -> Tensor:
        losses = []
        for surrogate in self.known.surrogates:
            logits = surrogate(seen)
            wanted = torch.full((len(seen),), logits.shape[1] - 1, device=logits.device)
            losses.append(functional.cross_entropy(logits, wanted))
        return torch.stack(losses).mean()
