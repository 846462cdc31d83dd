"""A pretrained diffusion model as a denoiser: noisy images in, an estimate of the clean ones out, differentiable."""

import math
import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.clip import clipped
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.hashing import hash_state
from poison_and_defend.diffusion.denoiser_files import (
    CONFIG,
    INDEX,
    SCHEDULER,
    check_numbers,
    check_weights,
    read_config,
)
from poison_and_defend.diffusion.families.parametrizations import Parametrization, VariancePreserving
from poison_and_defend.diffusion.families.schedulers import check_scheduler, parametrization_of
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.diffusion.network import check_class, check_unconditional, evaluate, image_size, unusual_settings
from poison_and_defend.diffusion.training_range import read_training_range

# diffusers writes a bare model and its scheduler into one folder, a pipeline into two.
_LAYOUTS = ((".", "."), ("unet", "scheduler"))


class Denoiser(nn.Module):
    """One-shot or multi-step denoising with a diffusers ``UNet2DModel`` and its scheduler.

    The noisy image ``x + sigma n`` is scaled to the model's units at the time whose noise covers sigma. One step returns the
    model's estimate of x at once (Carlini et al., "(Certified!!) Adversarial Robustness for Free!", ICLR 2023, Algorithm 1);
    several steps follow the deterministic DDIM path (Song et al., ICLR 2021, equation 12 with no noise), which is Euler's
    method for the ODE of every family, over times from there to no noise. What the model's output means is its scheduler's
    business (:mod:`poison_and_defend.diffusion.families.parametrizations`). Where fresh noise is given, steps are ancestral
    instead: each draws from the posterior of the next state given this one and the estimate (Ho et al., NeurIPS 2020, equations
    6 and 7, which hold for skipped times with the product of their alphas; the same as Song et al.'s equation 16 at eta = 1).

    Args:
        unet: A diffusers ``UNet2DModel`` without conditions; with twice as many output as input channels the second half is a
            learned variance and is ignored.
        scheduler: A diffusers scheduler, one of :data:`poison_and_defend.diffusion.families.schedulers.SCHEDULERS`.
        steps: Number of model evaluations.
        trained: The most noise that it was trained on, as a standard deviation for images in [0, 1]; None where nobody says,
            and the schedule's range counts.

    Raises:
        InputError: If scheduler, prediction type, conditions or channels do not fit.
    """

    alphas_cumprod: Tensor | None
    unet: Any

    def __init__(self, unet: nn.Module, scheduler: Any, *, steps: int = 1, trained: float | None = None) -> None:
        super().__init__()
        config: Any = unet.config
        check_unconditional(config)
        self.channels, self.out_channels = int(config.in_channels), int(config.out_channels)
        self.size = image_size(config)
        self.parametrization = parametrization_of(scheduler)
        self.prediction = str(scheduler.config.get("prediction_type", ""))
        if self.out_channels not in (self.channels, 2 * self.channels):
            raise InputError(f"the denoiser maps {self.channels} channels to {self.out_channels} (--denoiser)")
        at_least("denoise_steps", steps, 1)
        self.unet = unet
        self.steps, self.trained = steps, trained
        preserving = isinstance(self.parametrization, VariancePreserving)
        # A family without timesteps has none.
        abar = scheduler.alphas_cumprod.double().clone() if preserving else None
        self.register_buffer("alphas_cumprod", abar, persistent=False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the output depends on (weights, network, scheduler and size), wherever the files lie."""
        return hash_state(self.unet.state_dict(), self.parametrization.description + unusual_settings(self.unet))

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.unet.parameters()).device  # type: ignore[no-any-return]

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images ``(C, H, W)`` of another shape than the model's."""
        own = (self.channels, *self.size)
        if tuple(shape) != own:
            raise InputError(f"the denoiser takes images of shape {own}, the data's are {tuple(shape)} (--denoiser)")

    def timestep(self, sigma: float) -> float:
        """The time that :meth:`forward` starts from, an int where discrete; raises `InputError` beyond the schedule."""
        return self.parametrization.start(sigma)

    def forward(self, noisy: Tensor, sigma: float, fresh: Callable[[int], Tensor] | None = None) -> Tensor:
        """Denoise.

        Args:
            noisy: ``(N, C, H, W)`` float: images in [0, 1] plus noise, not clipped.
            sigma: Standard deviation of that noise, in [0, 1] units.
            fresh: Standard normal noise ``(N, C, H, W)`` of each step but the last, by its number from 1; None for none.

        Returns:
            ``(N, C, H, W)`` float in [0, 1].
        """
        family = self.parametrization
        path = family.path(family.start(sigma), self.steps)
        state = family.signal(path[0]) * family.to_model(noisy)
        clean = state
        # A gradient through several steps remembers each one's state alone, and goes through the network again.
        again = self.steps > 1 and torch.is_grad_enabled() and noisy.requires_grad
        network = partial(checkpoint, self._network, use_reentrant=False) if again else self._network
        for number, (time, later) in enumerate(zip(path, [*path[1:], None], strict=True), 1):
            clean = clipped(family.estimate(network, state, time), *family.span)
            if later is not None:
                direction = (state - family.signal(time) * clean) / family.noise(time)
                added = 0.0 if fresh is None else _posterior(family, time, later)
                state = family.signal(later) * clean + math.sqrt(family.noise(later) ** 2 - added**2) * direction
                state = state if fresh is None else state + added * fresh(number)
        return family.to_images(clean)

    def _network(self, state: Tensor, time: float) -> Tensor:
        # The network would cut off what a float that is no tensor has behind its point.
        moment = time if isinstance(time, int) else torch.tensor(time, device=state.device, dtype=state.dtype)
        # The state stays in single precision, whatever the model computes in.
        return evaluate(self.unet, state.to(self.unet.dtype), moment)[:, : self.channels].to(state.dtype)


def _posterior(family: Parametrization, time: float, later: float) -> float:
    """Standard deviation of the state at ``later``, given that at ``time`` and the clean image."""
    carried = family.signal(time) / family.signal(later) * family.noise(later)
    return family.noise(later) / family.noise(time) * math.sqrt(max(0.0, family.noise(time) ** 2 - carried**2))


def load_denoiser(source: str, *, steps: int = 1) -> Denoiser:
    """Load a denoiser by its name in this package, from a diffusers folder, or from the Hugging Face Hub.

    Only safetensors are read. Nothing is downloaded unless the source begins with ``hf:``.

    Args:
        source: As :func:`poison_and_defend.diffusion.find_denoiser.find_denoiser` takes it.
        steps: Evaluations of the model per image.

    Raises:
        InputError: If there is none, if a file is missing, truncated or foreign, or if the model is of a kind that cannot
            denoise images in one step.
    """
    name, folder = find_denoiser(source)
    errors: list[str] = []
    for unet_folder, scheduler_folder in _LAYOUTS:
        if folder is not None and not os.path.lexists(folder / unet_folder / CONFIG):
            continue
        try:
            unet, scheduler, wrong = _load(name, folder, unet_folder, scheduler_folder)
            # diffusers fills what is missing with random weights and only warns.
            if wrong:
                errors.append(f"its weights do not fit its configuration ({len(wrong)} differ, first {wrong[0]})")
                continue
            return Denoiser(unet, scheduler, steps=steps, trained=None if folder is None else read_training_range(folder))
        except InputError:
            raise
        # diffusers and safetensors raise a dozen kinds for a missing, truncated or foreign file.
        except Exception as error:
            errors.append(" ".join(str(error).split())[:200])
    reason = errors[0] if errors else "it holds no config.json of a UNet2DModel"
    raise InputError(f"cannot load a denoiser from {source}: {reason} (--denoiser)")


def _options(folder: str) -> dict[str, Any]:
    return {} if folder == "." else {"subfolder": folder}


def _load(source: str, local: Path | None, unet_folder: str, scheduler_folder: str) -> tuple[nn.Module, Any, list[Any]]:
    """Network, scheduler, and which weights do not fit."""
    options, scheduler_options = _options(unet_folder), _options(scheduler_folder)
    if local is not None:
        for path in (local / unet_folder / CONFIG, local / scheduler_folder / SCHEDULER):
            read_config(path)
    # diffusers takes seconds to import, which an experiment without a denoiser should not pay.
    import diffusers

    # Kinds first: a network of another class may load, and do anything.
    config = diffusers.UNet2DModel.load_config(source, **options)
    check_class(config.get("_class_name"))
    if options:
        _check_pixels(source)
    schedule = diffusers.DDPMScheduler.load_config(source, **scheduler_options)
    name = schedule.get("_class_name")
    check_scheduler(name)
    check_numbers(schedule)
    check_numbers(config)
    check_unconditional(config)
    image_size(config)
    if local is not None:
        check_weights(local / unet_folder, config)
    unet, report = diffusers.UNet2DModel.from_pretrained(
        source, use_safetensors=True, torch_dtype=torch.float32, low_cpu_mem_usage=False, output_loading_info=True, **options
    )
    scheduler = getattr(diffusers, name).from_pretrained(source, **scheduler_options)
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"], *report["error_msgs"]]
    # diffusers leaves what a file of several types has in another.
    return unet.float().eval().requires_grad_(False), scheduler, wrong


def _check_pixels(source: str) -> None:
    """Refuse a pipeline whose network sees what an autoencoder makes of images."""
    import diffusers

    if os.path.lexists(Path(source, INDEX)):
        read_config(Path(source, INDEX))
    try:
        parts = diffusers.DiffusionPipeline.load_config(source)
    # A network and a scheduler alone need no index.
    except OSError:
        return
    if coder := {"vae", "vqvae", "vqgan"} & set(parts):
        raise InputError(
            f"the denoiser works on the codes of an autoencoder ({coder.pop()}), not on images: use a model of pixels, such as "
            "hf:google/ddpm-cifar10-32 (--denoiser)"
        )
