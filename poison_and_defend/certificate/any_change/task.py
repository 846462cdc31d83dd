"""What a certificate of any change is asked for: groups of options that touch no disk."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from poison_and_defend.certificate.task import Received
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.lightning_modules.networks.spec import Network

Family = Literal["neighbours", "kernel", "partition", "run_off", "aggregation", "hybrid"]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True)
class Trusted:
    """What the attacker is taken not to reach.

    Args:
        networks: Pretrained networks, by one word or by their options; their features are put one after the other.
        reference: A labelled data set of other classes, of which the attacker changed nothing: half of its classes say how
            features are compared, the other half which vote is best for how many poisons. By default the data's public part,
            whose labels are not looked at: it says how features are compared, and settings follow from rules.
        reference_rows: How many of its images are taken, as many of every class; by default all.
        trusted: How many images with their labels the attacker cannot have changed: the first ones of the data's public part,
            or, where there is none, images of the training split that were checked by hand; which ones, a key of the row
            numbers says, and they leave the received set.
        vouch: Parts of unknown origin that the user says come from trusted data, such as ``networks``.
        uncertified: Go on although something voids the certificate; every result then says so.
    """

    networks: list[str | Network] = field(default_factory=lambda: ["efficientnet_lite0"])
    reference: ArrayDataModule | None = None
    reference_rows: int | None = None
    trusted: int = 0
    vouch: list[str] = field(default_factory=list)
    uncertified: bool = False


@dataclass(frozen=True)
class Votes:
    """The votes that are tried, and with what settings. Several values of one are chosen among on a labelled reference.

    Args:
        votes: ``neighbours``, received rows within a radius of the test image; ``kernel``, the same with a soft border, slow;
            ``partition``, linear heads on disjoint parts; ``run_off``, their election in two rounds; ``aggregation``, heads on
            overlapping parts; ``hybrid``, heads that each see the trusted rows and a part.
        shares: Radii, each as the share of the reference's images that are within it; by default several, and without labels
            as large a share as one class has.
        radii: Radii as cosines, instead of shares.
        m: Images of a part; by default several, and without labels a twentieth of the images for each poison, 10 to 100.
        spread: Models that see each bucket of ``aggregation``.
    """

    votes: list[Family] = field(default_factory=lambda: ["neighbours", "partition", "run_off", "aggregation", "hybrid"])
    shares: list[float] | None = None
    radii: list[float] | None = None
    m: list[int] | None = None
    spread: int = 4


@dataclass(frozen=True)
class Poisons:
    """The attackers that claims are about.

    Args:
        k: Numbers of poisons of the table.
    """

    k: list[int] = field(default_factory=lambda: [1, 5, 25, 100])


@dataclass(frozen=True)
class Kept:
    """Where results go.

    Args:
        name: Folder of the results under output_dir; by default made of the data's name.
        output_dir: Where results are kept, and under ``features/`` what networks say of images.
        seed: Seeds what trusted images alone decide, and keys the parts; no secret, since the numbers hold for each.
    """

    name: str | None = None
    output_dir: str = "runs"
    seed: int = 0


@dataclass(frozen=True)
class AnyChangeTask:
    """Say how many received rows may change in any way without changing votes on trusted features.

    Groups of options; a command line shows them flat.
    """

    received: Received
    trust: Trusted
    ballot: Votes
    claims: Poisons
    place: Kept
