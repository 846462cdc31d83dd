"""What a network is, as options, digests and records need it; nothing is built or imported here."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from poison_and_defend.core.errors import InputError
from poison_and_defend.lightning_modules.networks.presets import network_presets

OURS = (
    "convnet",
    "convnet_wide",
    "patchnet",
    "airbench_slim",
    "resnet18",
    "resnet18_slim",
    "resnet34",
    "vgg11",
    "vgg16",
    "mobilenet_v2",
)
"""Short names of the networks that this project brings."""

Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class Network:
    """A classifier network: what is built, and which of its layers give its features.

    Args:
        build: Architecture: ``convnet``, ``convnet_wide``, ``patchnet``, ``airbench_slim``, ``resnet18``, ``resnet18_slim``,
            ``resnet34``, ``vgg11``, ``vgg16`` or ``mobilenet_v2``; ``timm:NAME``; ``torchvision:NAME``; ``hf:ID``, an image
            classifier of transformers from a local folder or the Hub; the path of a class or function that gives an
            ``nn.Module``; or a preset, which says all other options that are not given: ``efficientnet_lite0`` or
            ``efficientnet_lite2``.
        arguments: What the architecture is built with besides the number of classes, such as ``{pretrained: true}`` for the
            weights that timm, torchvision or the Hub have for it.
        size: Height and width that images are resized to inside the network; by default they stay as they are.
        interpolation: How a network resizes images to its size, ``bilinear`` or ``bicubic``; by default bilinear.
        mean: Mean of each channel of images in [0, 1]; by default the data's, and that of a pretrained network its own.
        std: Standard deviation of each channel of images in [0, 1]; by default the data's, and that of a pretrained network
            its own.
        head: Dotted name of the network's last ``nn.Linear``; by default the last one that gives a number for each class.
        layers: Dotted names of layers whose outputs, pooled over all places and put one after another, are the features; by
            default what the head sees.
        blocks: Dotted names of layers that end-to-end attacks look at, and that dropout comes before; by default the features
            alone.
        weights: A safetensors file with the network's weights, or ``package:NAME`` of an installed package that holds them; a
            head of another number of classes in it is left out.
    """

    build: str = "convnet"
    arguments: dict[str, Any] = field(default_factory=dict)
    size: int | None = None
    interpolation: Interpolation | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    head: str | None = None
    layers: list[str] | None = None
    blocks: list[str] | None = None
    weights: str | None = None

    shorthand: ClassVar[str] = "build"
    """The option that a network stands for where one word describes it."""

    def __post_init__(self) -> None:
        """What a preset says, where nothing else is said."""
        for name, value in network_presets().get(self.build, {}).items():
            if name == "build" or getattr(self, name) in (None, {}):
                object.__setattr__(self, name, value)
        if self.interpolation == "bilinear":
            # Said or not, it is the same network.
            object.__setattr__(self, "interpolation", None)

    @classmethod
    def of(cls, value: "Network | str | Mapping[str, Any]") -> Self:
        """A network from itself, from its ``build`` alone, or from its options, as files keep them.

        Raises:
            InputError: If it is none of these.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        known = {one.name for one in fields(cls)}
        if not isinstance(value, Mapping) or not set(value) <= known or not isinstance(value.get("build", ""), str):
            raise InputError(f"{value!r} is no network: a name, or options of one, is needed (--network)")
        return cls(**value)

    @property
    def ours(self) -> bool:
        """Whether this project brings the architecture."""
        return self.build in OURS

    @property
    def resizing(self) -> str:
        """How images are resized."""
        return self.interpolation or "bilinear"

    @property
    def plain(self) -> bool:
        """Whether it is one of ours without options, whose name says it all."""
        return self.ours and self == Network(self.build)

    @property
    def described(self) -> bool:
        """Whether any option besides ``build`` is given."""
        return self != Network(self.build)

    @property
    def harmless(self) -> bool:
        """Whether a file that anybody wrote may name it, since building one of these runs nothing of the file's choice."""
        kind, joined, _ = self.build.partition(":")
        return self.ours or (bool(joined) and kind in ("timm", "torchvision"))

    @property
    def trained(self) -> bool:
        """Whether its weights come from a file or from its makers, and not from a seed alone."""
        return self.weights is not None or bool(self.arguments.get("pretrained") or self.arguments.get("weights"))

    def untrained(self) -> "Network":
        """The same with nothing to begin its weights with, for those that a checkpoint brings."""
        arguments = {name: value for name, value in self.arguments.items() if name not in ("pretrained", "weights")}
        return replace(self, weights=None, arguments=arguments)

    @property
    def stem(self) -> str:
        """``build`` as part of a file's name."""
        return re.sub(r"[^\w.-]+", "_", self.build).strip("._")[-60:] or "network"

    def options(self) -> dict[str, Any]:
        """All options, as JSON can hold them."""
        return asdict(self)
