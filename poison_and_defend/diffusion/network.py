"""A diffusers ``UNet2DModel`` as the network of a denoiser: whether it can be one, what its output depends on, and any size."""

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief
from poison_and_defend.diffusion.tiles import TileLayout

_MOST_SIDE = 8192  # Larger images come in tiles of a denoiser's size, and smaller ones are padded to it.
_INSTEAD = "use an unconditional UNet2DModel, such as hf:google/ddpm-cifar10-32 (--denoiser)"

# What the shapes of the weights say already, what is at work in training only, and what has a place of its own.
_LEFT_OUT = (
    "in_channels",
    "out_channels",
    "block_out_channels",
    "layers_per_block",
    "time_embedding_dim",
    "dropout",
    "sample_size",
)

# As `train-denoiser` builds networks. Written down here, since another release of diffusers may have other defaults.
_USUAL: dict[str, Any] = {
    "act_fn": "silu",
    "add_attention": True,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-05,
    "norm_num_groups": 8,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "upsample_type": "conv",
}


def check_class(name: str | None) -> None:
    """Refuse a network that is no ``UNet2DModel``, by the name of its class; no name passes, for its weights will tell.

    Raises:
        InputError: Saying what to use instead.
    """
    if name in (None, "UNet2DModel"):
        return
    if "Condition" in str(name):
        raise InputError(
            f"the denoiser is a {brief(name)}, which needs a text or another condition for each image, and there is none: "
            f"{_INSTEAD}"
        )
    raise InputError(f"the denoiser is a {brief(name)}, whose inputs and outputs are not known here: {_INSTEAD}")


def check_unconditional(config: Mapping[str, Any]) -> None:
    """Refuse a network that wants a class for each image.

    Raises:
        InputError: Saying what to use instead.
    """
    for option in ("num_class_embeds", "class_embed_type"):
        if config.get(option) is not None:
            raise InputError(
                f"the denoiser is class-conditional ({option} is {brief(config[option])}) and needs a class for each image, "
                f"which sanitizing does not tell it: {_INSTEAD}"
            )


def image_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the images that a network was made for.

    Raises:
        InputError: If its configuration does not name them.
    """
    size = config.get("sample_size")
    if size is None:
        raise InputError("the denoiser's configuration names no sample_size (--denoiser)")
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= _MOST_SIDE for side in sides):
        raise InputError(
            f"the denoiser's sample_size is {brief(size)}, which is no height and width of 1 to {_MOST_SIDE} (--denoiser)"
        )
    return sides[0], sides[1]


def unusual_settings(unet: nn.Module) -> str:
    """What the output depends on besides weights, as text that is always written alike: all that is not as usual.

    Usual is what `train-denoiser` makes of its default options, so that its networks have the fingerprint they always had.
    """
    config: Mapping[str, Any] = unet.config  # type: ignore[assignment]
    levels = len(config.get("block_out_channels", ()))
    usual = _USUAL | {"down_block_types": ["DownBlock2D"] * levels, "up_block_types": ["UpBlock2D"] * levels}
    defaults = inspect.signature(type(unet).__init__).parameters
    found: dict[str, Any] = {}
    for name, value in sorted(config.items()):
        # diffusers keeps what is no argument, such as its own release and options it never heard of, and passes over it.
        if name in _LEFT_OUT or (name not in usual and name not in defaults):
            continue
        value = list(value) if isinstance(value, tuple) else value
        # What a later diffusers adds does not count before somebody sets it.
        if value != (usual[name] if name in usual else defaults[name].default):
            found[name] = value
    size = image_size(config)
    if size != (32, 32):
        found["sample_size"] = list(size)
    return json.dumps(found, sort_keys=True, default=str) if found else ""


def evaluate(unet: nn.Module, state: Tensor, time: Any) -> Tensor:
    """The network's output for states of any size.

    A network halves its input between levels and doubles it on the way back, which fits only sides that are multiples of a
    power of two. Others are mirrored at their edges up to the next one, noise and all, and the output is cropped. Training does
    the same, so that a network knows such borders.

    Args:
        unet: A ``UNet2DModel``.
        state: ``(N, C, H, W)``.
        time: What the network is conditioned on.

    Returns:
        ``(N, C', H, W)``.
    """
    multiple = 2 ** max(len(unet.config.get("block_out_channels", ())) - 1, 0)  # type: ignore[union-attr, operator]
    height, width = state.shape[-2:]
    if not (height % multiple or width % multiple):
        return unet(state, time).sample  # type: ignore[no-any-return]
    layout = _layout(height, width, multiple)
    top, left = layout.before
    output: Tensor = unet(layout.pad(state), time).sample
    return output[..., top : top + height, left : left + width]


@lru_cache(maxsize=8)
def _layout(height: int, width: int, multiple: int) -> TileLayout:
    """One tile, of the next size that fits."""
    return TileLayout(height, width, (-(-height // multiple) * multiple, -(-width // multiple) * multiple), 0)
