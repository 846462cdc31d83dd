"""A pretrained diffusion model as a denoiser: noisy images in, an estimate of the clean ones out, differentiable."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from defenses.schedule import timestep_for
from errors import InputError

# diffusers writes a bare model and its scheduler into one folder, a pipeline into two.
_LAYOUTS = ((".", "."), ("unet", "scheduler"))


class Denoiser(nn.Module):
    """One-shot or multi-step denoising with a diffusers ``UNet2DModel`` and its scheduler.

    The noisy image ``x + sigma n`` is scaled to the model's input ``sqrt(abar_t) (2 (x + sigma n) - 1)`` at the first
    timestep t whose noise covers sigma (:func:`defenses.schedule.timestep_for`). One step returns the model's estimate
    of x at once (Carlini et al., "(Certified!!) Adversarial Robustness for Free!", ICLR 2023, Algorithm 1); several steps
    follow the deterministic DDIM path (Song et al., ICLR 2021, equation 12 with no noise) over evenly spaced
    timesteps from t to 0.

    Args:
        unet: A diffusers ``UNet2DModel``; with twice as many output as input channels the second half is a learned
            variance and is ignored.
        scheduler: A diffusers scheduler that holds ``alphas_cumprod`` and ``config.prediction_type``, one of
            ``epsilon``, ``sample`` and ``v_prediction``.
        steps: Number of model evaluations.

    Raises:
        InputError: If the prediction type is another, or the channels do not fit.
    """

    alphas_cumprod: Tensor
    unet: Any

    def __init__(self, unet: nn.Module, scheduler: Any, *, steps: int = 1) -> None:
        super().__init__()
        config: Any = unet.config
        self.channels, self.out_channels = int(config.in_channels), int(config.out_channels)
        size = config.sample_size
        if size is None:
            raise InputError("the denoiser's configuration names no sample_size (--denoiser)")
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.prediction = str(scheduler.config.prediction_type)
        if self.prediction not in ("epsilon", "sample", "v_prediction"):
            raise InputError(f"prediction type {self.prediction!r} is not epsilon, sample or v_prediction (--denoiser)")
        if self.out_channels not in (self.channels, 2 * self.channels):
            raise InputError(f"the denoiser maps {self.channels} channels to {self.out_channels} (--denoiser)")
        if steps < 1:
            raise InputError(f"denoise_steps is {steps}: at least 1 is needed (--denoise_steps)")
        self.unet = unet
        self.steps = steps
        self.register_buffer("alphas_cumprod", scheduler.alphas_cumprod.double().clone(), persistent=False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights, schedule and prediction type: what the output depends on, wherever the files lie."""
        digest = hashlib.sha256(f"{self.prediction} {tuple(self.alphas_cumprod.tolist())}".encode())
        for name, tensor in sorted(self.unet.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse images ``(C, H, W)`` of another shape than the model's."""
        own = (self.channels, *self.size)
        if tuple(shape) != own:
            raise InputError(f"the denoiser takes images of shape {own}, the data's are {tuple(shape)} (--denoiser)")

    def timestep(self, sigma: float) -> int:
        """The timestep that :meth:`forward` starts from; raises `InputError` beyond the schedule."""
        return timestep_for(sigma, self.alphas_cumprod)

    def forward(self, noisy: Tensor, sigma: float) -> Tensor:
        """Denoise.

        Args:
            noisy: ``(N, C, H, W)`` float: images in [0, 1] plus noise, not clipped.
            sigma: Standard deviation of that noise, in [0, 1] units.

        Returns:
            ``(N, C, H, W)`` float in [0, 1].
        """
        start = self.timestep(sigma)
        path = torch.linspace(start, 0, self.steps + 1).round().long().tolist()[:-1]
        path = list(dict.fromkeys(path))
        state = self._signal(start) * (2 * noisy - 1)
        clean = state
        for index, time in enumerate(path):
            clean = self._estimate(state, time).clamp(-1, 1)
            if index + 1 < len(path):
                direction = (state - self._signal(time) * clean) / self._noise(time)
                later = path[index + 1]
                state = self._signal(later) * clean + self._noise(later) * direction
        return (clean + 1) / 2

    def _signal(self, time: int) -> float:
        return float(self.alphas_cumprod[time].sqrt())

    def _noise(self, time: int) -> float:
        return float((1 - self.alphas_cumprod[time]).sqrt())

    def _estimate(self, state: Tensor, time: int) -> Tensor:
        """The model's estimate of the clean image in [-1, 1] from the state at ``time``."""
        # The state stays in single precision, whatever the model computes in.
        output: Tensor = self.unet(state.to(self.unet.dtype), time).sample[:, : self.channels].to(state.dtype)
        if self.prediction == "sample":
            return output
        if self.prediction == "v_prediction":
            return self._signal(time) * state - self._noise(time) * output
        return (state - self._noise(time) * output) / self._signal(time)


def load_denoiser(source: str, *, steps: int = 1) -> Denoiser:
    """Load a denoiser from a local diffusers folder or from a Hugging Face id such as ``google/ddpm-cifar10-32``.

    Only safetensors are read. Nothing is downloaded for a local folder.

    Raises:
        InputError: If neither exists, or a file is missing, truncated or foreign.
    """
    # diffusers takes seconds to import, which an experiment without a denoiser should not pay.
    from diffusers import DDPMScheduler, UNet2DModel

    folder = Path(source)
    if not folder.is_dir() and (folder.is_absolute() or source.count("/") != 1 or source.startswith(".")):
        raise InputError(f"there is no denoiser folder {source} (--denoiser)")
    errors: list[str] = []
    for unet_folder, scheduler_folder in _LAYOUTS:
        if folder.is_dir() and not (folder / unet_folder / "config.json").is_file():
            continue
        options: dict[str, Any] = {} if unet_folder == "." else {"subfolder": unet_folder}
        scheduler_options: dict[str, Any] = {} if scheduler_folder == "." else {"subfolder": scheduler_folder}
        try:
            unet, report = UNet2DModel.from_pretrained(
                source,
                use_safetensors=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                **options,
            )
            scheduler = DDPMScheduler.from_pretrained(source, **scheduler_options)
        # diffusers and safetensors raise a dozen kinds for a missing, truncated or foreign file.
        except Exception as error:
            errors.append(" ".join(str(error).split())[:200])
            continue
        # diffusers fills what is missing with random weights and only warns.
        wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"], *report["error_msgs"]]
        if wrong:
            errors.append(f"its weights do not fit its configuration ({len(wrong)} differ, first {wrong[0]})")
            continue
        unet.eval().requires_grad_(False)
        return Denoiser(unet, scheduler, steps=steps)
    reason = errors[0] if errors else "it holds no config.json of a UNet2DModel"
    raise InputError(f"cannot load a denoiser from {source}: {reason} (--denoiser)")
