"""The files of a denoiser's folder, looked at before diffusers reads them: it opens whatever is there, of any size."""

import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.arrays import tensor_sizes
from poison_and_defend.core.reading.files import brief, check_fields, guarded, read_json
from poison_and_defend.diffusion.network import evaluate, image_size

CONFIG, SCHEDULER, INDEX = "config.json", "scheduler_config.json", "model_index.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SHARD = re.compile(r"[\w.-]{1,200}\.safetensors", re.ASCII)
_OPTION = "--denoiser"
_MOST_BYTES = 1 << 22  # Of a configuration; the betas of a schedule may be written out.

# Of a whole number in a configuration. What has hundreds of levels or layers takes minutes to build, what has millions of
# timesteps gigabytes; the largest pixel models have 8 levels and 4 layers.
_LIMITS = {
    "in_channels": 1 << 10,
    "out_channels": 1 << 10,
    "layers_per_block": 64,
    "num_train_timesteps": 1 << 20,
    "num_inference_steps": 1 << 20,
}
_LEVELS, _CHANNELS = 16, 1 << 16
_PARAMETERS = 1 << 34


def read_config(path: Path) -> dict[str, Any]:
    """A configuration, as a JSON object.

    Raises:
        InputError: If there is none or it is damaged.
    """
    what = "no configuration of a denoiser"
    with guarded(path, what, _OPTION):
        found: dict[str, Any] = check_fields(read_json(path, what, _OPTION, _MOST_BYTES), {}, path, what, _OPTION)
    return found


def check_numbers(config: Mapping[str, Any]) -> None:
    """Refuse numbers that no denoiser has and that would take all memory or hours before anything could be compared.

    Raises:
        InputError: Naming the number.
    """
    for name, most in _LIMITS.items():
        value = config.get(name)
        if value is not None and (type(value) is not int or not 0 < value <= most):
            raise InputError(f"the denoiser's {name} is {brief(value)}: it is a whole number from 1 to {most} ({_OPTION})")
    levels = config.get("block_out_channels", [])
    whole = isinstance(levels, list | tuple) and all(type(channels) is int and 0 < channels <= _CHANNELS for channels in levels)
    if not whole or len(levels) > _LEVELS:
        raise InputError(
            f"the denoiser's block_out_channels are {brief(levels)}: they are at most {_LEVELS} whole numbers up to "
            f"{_CHANNELS} ({_OPTION})"
        )


def check_weights(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that asks for more numbers than the weights hold, before memory is taken for them.

    Args:
        folder: Of the network.
        config: Of the network, whose numbers were checked.

    Raises:
        InputError: If it does, or the weights are damaged.
    """
    import diffusers
    import torch

    what = "no weights of a denoiser"
    found = sum(sum(tensor_sizes(path, what, _OPTION).values()) for path in _weight_files(folder))
    # On this device tensors have shapes alone.
    with torch.device("meta"):
        network = diffusers.UNet2DModel.from_config(dict(config))
    asked = sum(prod(tensor.shape) for tensor in network.state_dict().values())
    if asked > min(found, _PARAMETERS):
        raise InputError(
            f"the denoiser's weights do not fit its configuration, which asks for {asked} numbers, and there are {found} "
            f"({_OPTION})"
        )
    # Some configurations can be built but not computed.
    height, width = image_size(config)
    with torch.device("meta"), guarded(folder, "no denoiser that can be computed", _OPTION):
        state = torch.empty(1, config["in_channels"], height, width)
        output = evaluate(network, state, 1)
        if output.shape != (1, config["out_channels"], height, width):
            raise ValueError(f"it maps {tuple(state.shape)} to {tuple(output.shape)}")


def _weight_files(folder: Path) -> list[Path]:
    index = folder / f"{_WEIGHTS}.index.json"
    if not index.exists():
        return [folder / _WEIGHTS]
    names = read_config(index).get("weight_map")
    what = "no list of weight files"
    with guarded(index, what, _OPTION):
        if not isinstance(names, dict) or not names:
            raise ValueError("it has no weight_map")
        if not all(isinstance(name, str) and _SHARD.fullmatch(name) for name in names.values()):
            raise ValueError("its weight_map names other files")
        return [folder / name for name in dict.fromkeys(names.values())]
