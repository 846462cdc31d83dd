"""A certificate as values: written as ``certificate.json`` by whoever certifies, and read back by whoever shows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import check_fields, guarded, read_json

WHAT, OPTION = "no certificate that can be shown", "--run"
Table = list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What tells a setting from others: the noise, and how each voter's subsample is drawn from n images.

    Attributes:
        m: Images of a subsample of fixed size; None where each image has a chance instead.
        q: That chance; None where the size is fixed.
    """

    sigma: float
    m: int | None = None
    q: float | None = None
    n: int

    @property
    def name(self) -> str:
        """Name of the setting's folder and files."""
        return f"sigma_{self.sigma:g}_{f'm_{self.m}' if self.m is not None else f'q_{self.q:g}'}"

    @property
    def label(self) -> str:
        """Noise and subsample as a reader expects them."""
        drawn = f"m {self.m:,} of {self.n:,}" if self.m is not None else f"q {self.q:g} of {self.n:,}"
        return f"{self._noise}, {drawn}"

    @property
    def short(self) -> str:
        """The same in few characters."""
        return f"{self._noise}, {f'm {self.m}' if self.m is not None else f'q {self.q:g}'}"

    @property
    def _noise(self) -> str:
        return f"sigma {self.sigma:g}" if self.sigma else "no noise"

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From JSON; keys that are not known are passed over.

        Raises:
            TypeError: If one is missing.
        """
        known = {own.name for own in fields(cls)}
        return cls(**{key: part for key, part in value.items() if key in known})

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: of m and q the one that there is."""
        return {
            key: value
            for key, value in asdict(self).items()
            if value is not None or key not in ("m", "q", "level", "challenge", "membership")
        }


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What an attack inside the budget did to certified images.

    Attributes:
        targets: How many were attacked.
        flips: Votes that changed their winner.
        undefended_flips: Targets that changed for one head on the raw features of the whole set.
        votes_before: The winner's votes of each target.
        votes_after: Those after the attack.
        needed: Probability above which the budget cannot change a vote.
        retrained: Voters that drew a poison and were trained again, over all targets.
    """

    targets: int
    k: int
    eps: str
    attack: str = ""
    flips: int = 0
    undefended_flips: int = 0
    votes_before: list[int] = field(default_factory=list)
    votes_after: list[int] = field(default_factory=list)
    needed: float = 0.0
    retrained: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, in the order that it always had."""
        order = [
            "attack",
            "k",
            "eps",
            "targets",
            "flips",
            "undefended_flips",
            "votes_before",
            "votes_after",
            "needed",
            "retrained",
        ]
        return {key: getattr(self, key) for key in (order if self.targets else ("targets", "k", "eps"))}


@dataclass(frozen=True, kw_only=True)
class Certified(Drawn):
    """What the vote of one setting withstands.

    Attributes:
        selection: Models that chose the class which the others bound.
        accuracy: Share of test images that the vote reads right.
        table: Share certified, one claim an image, by numbers of poisons and budgets.
        table_all_images: Share certified for all images at once.
        table_all_settings: Share certified for a setting chosen in hindsight.
        needed: Probabilities that the budgets ask for.
        trusted_alone: Accuracy of the trusted data alone, if it was measured.
        looks: How many claims have been made about this received set, with this one.
        level: The chance at most that one of them is wrong, for one test image; None where it is not known.
        membership: Share certified where as many images are ``added``, ``removed``, or become any others with any labels
            (``changed``), by numbers of them; None for subsamples of a fixed size, whose law they change.
        challenge: What an attack inside the budget did; None where none was tried.
    """

    models: int
    selection: int
    images: int
    accuracy: float
    voter_accuracy: float
    abstained: float
    certified_unattacked: float
    median_radius: float
    largest_radius: float
    median_paper_radius: float
    largest_paper_radius: float
    table: Table
    table_all_images: Table
    table_all_settings: Table
    needed: Table
    trusted_alone: float | None = None
    looks: int = 1
    level: float | None = None
    membership: dict[str, list[float]] | None = None
    seconds: float = 0.0
    challenge: Challenge | None = None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """See :meth:`Drawn.read`."""
        tried = value.get("challenge")
        return super().read({**value, "challenge": None if tried is None else Challenge(**tried)})

    def to_json(self) -> dict[str, Any]:
        """See :meth:`Drawn.to_json`."""
        own = super().to_json()
        return own if self.challenge is None else own | {"challenge": self.challenge.to_json()}


@dataclass(frozen=True, kw_only=True)
class Forecast(Drawn):
    """What pilots of one setting foretell for the goal.

    Attributes:
        needed: Probability that the goal asks for.
        models: Numbers of models that it speaks of.
        expected: Share that each number is expected to certify.
    """

    needed: float
    pilots: int
    voter_accuracy: float
    seconds_per_model: float | None
    models: list[int]
    expected: list[float]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Everything that is claimed, and what it rests on.

    Attributes:
        certified: Whether nothing voids it.
        void: What does.
        eps: Budgets as they were written.
        radii: Their l2 norms, None for changes without bound.
        best: For each number of poisons and budget the setting that certifies most, and how much.
        randomness: What may be told of the voters' seed.
        rivals: How other classes were bounded, ``together`` or ``each``.
        bagging: What the same votes withstand without noise.
        test_sigma: Noise that every model adds to a test image.
        trigger: Budget of a change of the test image that is withstood besides, as it was written; "" for none.
    """

    dataset: str
    certified: bool
    void: list[str]
    alpha: float
    norm: str
    k: list[int]
    eps: list[str]
    radii: list[float | None]
    image_shape: list[int]
    learner: str
    warm_start: str
    defense: str
    randomness: dict[str, Any]
    ingredients: list[dict[str, Any]]
    settings: list[Certified]
    best: list[list[dict[str, Any]]]
    forecasts: list[Forecast]
    goal: dict[str, Any]
    wall_seconds: float
    provenance: dict[str, Any]
    rivals: str = "together"
    bagging: list[Certified] = field(default_factory=list)
    test_sigma: float = 0.0
    trigger: str = ""

    def best_bagging(self, k: int) -> Certified | None:
        """The setting without noise that certifies most against the ``k``-th number of poisons of any appearance."""
        return max(self.bagging, key=lambda own: own.table_all_settings[k][-1], default=None)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """From JSON, also of before all of it was written; keys that are not known are passed over.

        Raises:
            TypeError: If one is missing.
        """
        texts = dict.fromkeys(("learner", "warm_start", "defense"), "")
        known = {one.name for one in fields(cls)}
        own: dict[str, Any] = {"randomness": {}, "radii": [], "wall_seconds": 0.0, **texts}
        own |= {key: part for key, part in value.items() if key in known}
        own["settings"] = [Certified.read(record) for record in value["settings"]]
        own["bagging"] = [Certified.read(record) for record in value.get("bagging", [])]
        own["forecasts"] = [Forecast.read(record) for record in value["forecasts"]]
        return cls(**own)

    def to_json(self) -> dict[str, Any]:
        """What ``certificate.json`` holds."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return own | {name: [part.to_json() for part in own[name]] for name in ("settings", "bagging", "forecasts")}


_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "norm"), str),
    **dict.fromkeys(("settings", "forecasts", "k", "eps", "best", "ingredients", "void", "image_shape"), list),
    **dict.fromkeys(("goal", "provenance"), dict),
    "certified": bool,
    "alpha": float,
}


def read_certificate(path: Path) -> Certificate:
    """Read what :meth:`Certificate.to_json` wrote, now or before there was all of it.

    Raises:
        InputError: If it is missing or damaged.
    """
    try:
        found: dict[str, Any] = check_fields(read_json(path, WHAT, OPTION), _FIELDS, path, WHAT, OPTION)
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no {path.name} (--run)") from error
    for record in found["settings"]:
        drawn = {"m": int} if isinstance(record, dict) and "m" in record else {"q": float}
        check_fields(record, {"sigma": float, "n": int, **drawn}, path, WHAT, OPTION)
    with guarded(path, WHAT, OPTION):
        return Certificate.read(found)
