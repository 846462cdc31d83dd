"""Training a small diffusion model on public images, with an exponential moving average of its weights."""

import copy
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poison_and_defend.core.errors import InputError
from poison_and_defend.diffusion.denoiser import Denoiser, load_denoiser
from poison_and_defend.diffusion.families.parametrizations import clean_estimate
from poison_and_defend.diffusion.families.schedule import noise_ratios, timestep_for
from poison_and_defend.diffusion.network import evaluate
from poison_and_defend.diffusion.noise_level import note_doubtful, parse_sigma, refuse_ruinous
from poison_and_defend.diffusion.training_range import write_training_range
from poison_and_defend.lightning_modules.denoiser_loss import FeatureLoss, NoiseLevels, draw_times
from poison_and_defend.lightning_modules.networks.build import build_network
from poison_and_defend.lightning_modules.networks.check import check_images
from poison_and_defend.lightning_modules.networks.spec import Network


class DenoiserModule(L.LightningModule):
    """A diffusers ``UNet2DModel`` under the DDPM objective (Ho et al., NeurIPS 2020, equation 14) with EMA.

    Args:
        in_channels: Channels of the images.
        size: Side of the square images.
        channels: Width of each resolution; the number of resolutions is its length.
        layers_per_block: Residual blocks per resolution.
        attention: Whether the lowest resolution attends.
        groups: Groups of group normalization; divides every width.
        prediction: What the model estimates.
        schedule: diffusers' name of the noise schedule.
        timesteps: Length of the schedule.
        learning_rate: Peak of AdamW's rate, after ``warmup`` steps and before a cosine to zero.
        warmup: Steps of linear increase.
        ema_decay: Decay of the average whose weights are saved.
        max_sigma: Train only on timesteps up to this noise level in [0, 1] pixels, a number or a fraction such as ``25/255``;
            None trains on all. A sanitizer never needs more than its own sigma.
        noise_levels: How noise levels are drawn: uniform ``timesteps``, or with uniform logarithms (``log_uniform``) from
            ``min_sigma`` up, which spends as much training on sigma .05 to .1 as on .1 to .2.
        min_sigma: The least noise of ``log_uniform``, in [0, 1] pixels, a number or a fraction.
        flip: Whether images are mirrored at random.
        features: A network whose features of denoised and clean images should agree, besides their pixels; it sees no noise.
        feature_weight: Weight of the features' squared error, in standard deviations, beside that of the prediction.
        begin_with: A denoiser of the same network whose weights training begins with, as ``--denoiser`` names it.
        val_sigma: Noise level at which validation measures one-shot denoising, in [0, 1] pixels, a number or a fraction.
        seed: Seeds weights, noise and timesteps.
    """

    def __init__(
        self,
        in_channels: int = 1,
        size: int = 32,
        channels: list[int] | None = None,
        layers_per_block: int = 1,
        attention: bool = False,
        groups: int = 8,
        prediction: Literal["epsilon", "sample", "v_prediction"] = "epsilon",
        schedule: str = "linear",
        timesteps: int = 1000,
        learning_rate: float = 1e-3,
        warmup: int = 100,
        ema_decay: float = 0.995,
        max_sigma: float | str | None = None,
        noise_levels: NoiseLevels = "timesteps",
        min_sigma: float | str = 0.02,
        flip: bool = False,
        features: Network | None = None,
        feature_weight: float = 1.0,
        begin_with: str | None = None,
        val_sigma: float | str = 0.25,
        seed: int = 0,
    ) -> None:
        super().__init__()
        from diffusers import DDPMScheduler, UNet2DModel

        channels = [16, 32, 64] if channels is None else channels
        if any(width % groups for width in channels):
            raise InputError(f"channels {channels} must each be a multiple of groups = {groups} (--model.channels)")
        self.save_hyperparameters(ignore=["features"])
        down, up = ["DownBlock2D"] * len(channels), ["UpBlock2D"] * len(channels)
        if attention:
            down[-1], up[0] = "AttnDownBlock2D", "AttnUpBlock2D"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.unet = UNet2DModel(
                sample_size=size,
                in_channels=in_channels,
                out_channels=in_channels,
                layers_per_block=layers_per_block,
                block_out_channels=tuple(channels),
                down_block_types=tuple(down),
                up_block_types=tuple(up),
                norm_num_groups=groups,
            )
        self.begin_with = begin_with
        if begin_with is not None:
            _begin(self.unet, begin_with, prediction)
        self.average = AveragedModel(self.unet, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
        self.average.requires_grad_(False)
        self.scheduler = DDPMScheduler(num_train_timesteps=timesteps, beta_schedule=schedule, prediction_type=prediction)
        abar = self.scheduler.alphas_cumprod
        self.max_sigma = None if max_sigma is None else parse_sigma(max_sigma, "--model.max_sigma")
        if self.max_sigma == 0:
            raise InputError("max_sigma is 0: without noise there is nothing to learn (--model.max_sigma)")
        self.val_sigma = parse_sigma(val_sigma, "--model.val_sigma")
        refuse_ruinous(self.max_sigma or 0.0, "--model.max_sigma")
        refuse_ruinous(self.val_sigma, "--model.val_sigma")
        note_doubtful(self.val_sigma, self.max_sigma, "--model.val_sigma")
        timestep_for(self.val_sigma, abar, "--model.val_sigma")
        last = timesteps - 1 if self.max_sigma is None else timestep_for(self.max_sigma, abar, "--model.max_sigma")
        self.ratios = noise_ratios(abar)[: last + 1]
        self.noise_levels, self.flip = noise_levels, flip
        self.min_sigma = parse_sigma(min_sigma, "--model.min_sigma")
        if noise_levels == "log_uniform" and not 0 < 2 * self.min_sigma < self.ratios[-1].item():
            most = self.ratios[-1].item() / 2
            raise InputError(
                f"min_sigma is {self.min_sigma:g}: above 0 and below the most noise, {most:.4g}, is needed (--model.min_sigma)"
            )
        if not feature_weight > 0:
            raise InputError(f"feature_weight is {feature_weight:g}: above 0 is needed (--model.feature_weight)")
        self.feature_weight = feature_weight
        self.feature_loss: FeatureLoss | None = None
        if features is not None:
            shape = (in_channels, size, size)
            network = build_network(features, in_channels=in_channels, num_classes=2, option="--model.features")
            check_images(network, features, shape, "--model.features")
            self.feature_loss = FeatureLoss(network, shape)
        self.learning_rate, self.warmup = learning_rate, warmup
        self.seed = seed

    def denoiser(self, steps: int = 1) -> Denoiser:
        """The averaged model as the defence uses it."""
        return Denoiser(self.average.module, self.scheduler, steps=steps, trained=self.max_sigma)

    def on_fit_start(self) -> None:
        """Lay tensors out as the hardware's convolutions want them: half precision is twice as fast so."""
        if self.device.type == "cuda" or str(self.trainer.precision).startswith("bf16"):
            self.to(memory_format=torch.channels_last)
        if self.feature_loss is not None:
            self.feature_loss.prepare(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error of the prediction at random noise levels, and of the features where a network is given."""
        clean = batch[0].float() / 127.5 - 1
        # Ranks must not share noise, and a resumed run must not repeat it.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.global_step) * 4096 + self.global_rank)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        times = draw_times(self.ratios, len(clean), self.noise_levels, 2 * self.min_sigma, generator).to(clean.device)
        if self.flip:
            mirrored = torch.rand(len(clean), generator=generator).to(clean.device) < 0.5
            clean = torch.where(mirrored[:, None, None, None], clean.flip(-1), clean)
        loss, parts = self.objective(clean, noise, times)
        for name, part in parts.items():
            self.log(f"train/{name}", part, prog_bar=True, on_step=True, on_epoch=False)
        return loss

    def objective(self, clean: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimized, and its parts by name.

        Args:
            clean: ``(N, C, H, W)`` float, images in [-1, 1].
            noise: Standard normal, of the same shape.
            times: ``(N,)`` int64, a timestep for each image.
        """
        noisy = self.scheduler.add_noise(clean, noise, times)
        prediction = self.scheduler.config.prediction_type
        if prediction == "epsilon":
            goal = noise
        elif prediction == "sample":
            goal = clean
        else:
            goal = self.scheduler.get_velocity(clean, noise, times)
        output = evaluate(self.unet, noisy, times)
        loss = functional.mse_loss(output.float(), goal)
        if self.feature_loss is None:
            return loss, {"loss": loss}
        levels = self.scheduler.alphas_cumprod.to(clean.device)[times][:, None, None, None]
        estimate = clean_estimate(prediction, noisy, output.float(), levels.sqrt(), (1 - levels).sqrt())
        # Clipped as `Denoiser` clips it.
        seen = self.feature_loss((estimate.clamp(-1, 1) + 1) / 2, (clean + 1) / 2)
        return loss + self.feature_weight * seen, {"loss": loss, "feature_loss": seen}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the average."""
        self.average.update_parameters(self.unet)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Root mean squared error of one-shot denoising at ``val_sigma``, beside that of the noise itself."""
        clean = batch[0].float() / 255
        generator = torch.Generator().manual_seed(batch_idx)
        noisy = clean + self.val_sigma * torch.randn(clean.shape, generator=generator).to(clean.device)
        denoised = self.denoiser().to(self.device)(noisy, self.val_sigma)
        self.log("val/denoised_mse", functional.mse_loss(denoised, clean), prog_bar=True, sync_dist=True)
        self.log("val/noisy_mse", functional.mse_loss(noisy.clamp(0, 1), clean), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, linear warm-up, cosine to zero over the trainer's steps."""
        optimizer = torch.optim.AdamW(self.unet.parameters(), lr=self.learning_rate)
        total = max(int(self.trainer.estimated_stepping_batches), self.warmup + 1)
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=self.warmup),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total - self.warmup),
            ],
            [self.warmup],
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def export(self, folder: Path, *, half: bool = False) -> None:
        """Write the averaged model as a diffusers folder: safetensors, its config and the scheduler's, and ``max_sigma``.

        Args:
            half: Store float16; the loader computes in float32 all the same.
        """
        model: Any = copy.deepcopy(self.average.module).cpu()
        (model.half() if half else model.float()).save_pretrained(folder, safe_serialization=True)
        self.scheduler.save_pretrained(folder)
        write_training_range(folder, self.max_sigma)


def _begin(unet: nn.Module, source: str, prediction: str) -> None:
    """Give a network the weights of another of its kind.

    Raises:
        InputError: If there is none, or it is of another kind.
    """
    try:
        denoiser = load_denoiser(source)
    except InputError as error:
        raise InputError(str(error).replace("(--denoiser)", "(--model.begin_with)")) from error
    if denoiser.prediction != prediction:
        raise InputError(
            f"{source} estimates {denoiser.prediction or 'something else'}, this network {prediction}: its weights mean "
            "another thing (--model.begin_with, --model.prediction)"
        )
    given = denoiser.unet.state_dict()
    own = unet.state_dict()
    for name in sorted(set(own) | set(given)):
        sides = [tuple(state[name].shape) if name in state else None for state in (given, own)]
        if sides[0] != sides[1]:
            raise InputError(
                f"{name} of {source} is of shape {sides[0]}, this network's of {sides[1]}: channels, layers_per_block and "
                "attention must be that denoiser's (--model.begin_with)"
            )
    unet.load_state_dict(given)
