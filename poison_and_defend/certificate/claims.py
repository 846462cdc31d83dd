"""From votes to claims: what each setting's vote withstands, as JSON and as arrays."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poison_and_defend.certificate.plan import CertificatePlan
from poison_and_defend.certificate.setting import Setting
from poison_and_defend.certificate.vote_store import Votes
from poison_and_defend.certification import (
    Poisson,
    VoteBounds,
    certified_by_pairs,
    certified_share,
    expected_certified,
    membership_lower,
    needed_grid,
    needed_probability,
    subsampled_set_radius,
    vote_bounds,
    whole_set_lower,
    whole_set_radius,
    whole_set_upper,
)
from poison_and_defend.reports.certificate.records import Certified, Forecast

Floats = NDArray[np.float64]

_GRID = 48
"""Points on each axis of the map over (k, eps); a third of them where every pair of bounds has to be moved."""

_KINDS = ("added", "removed", "changed")

_PLANNED = (100, 200, 500, 1000, 2000, 5000, 10_000, 100_000)
"""Numbers of models that a forecast speaks of, besides the one asked for."""


def count_votes(votes: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int64]:
    """``(T, classes)`` votes per test image of ``(models, T)`` predictions."""
    images = votes.shape[1]
    places = votes.astype(np.int64) + classes * np.arange(images)
    return np.bincount(places.ravel(), minlength=images * classes).reshape(images, classes)


@dataclass(frozen=True, eq=False)
class Claims:
    """Bounds of one setting at one alpha, and what follows from them.

    Attributes:
        bounds: Winner and lower bound of its probability, per test image.
        right: Whether the winner is the true class.
        each: Whether other classes are bounded each by its own votes.
        trigger: By how many standard deviations of its noise the test image moves besides.
    """

    bounds: VoteBounds
    right: NDArray[np.bool_]
    each: bool = False
    trigger: float = 0.0

    @property
    def counted(self) -> Floats:
        """Lower bounds, 0 where the winner is wrong: those count as not certified."""
        return np.where(self.right, self.bounds.winner, 0.0)

    @property
    def triggered(self) -> tuple[Floats, Floats]:
        """Bounds of the winner and of the others once the trigger is there: what a change of the set then starts from."""
        return whole_set_lower(self.bounds.winner, self.trigger, 1.0), whole_set_upper(self.bounds.others, self.trigger, 1.0)

    def membership(self, setting: Setting, ks: Sequence[int]) -> dict[str, list[float]] | None:
        """Share certified where so many images come, go or turn into any others; None for subsamples of a fixed size."""
        sampling = setting.sampling
        if not isinstance(sampling, Poisson):
            return None

        counted, found = np.where(self.right, self.triggered[0], 0.0), dict[str, list[float]]()
        for kind in _KINDS:
            for k in ks:
                added, removed, changed = (k if kind == own else 0 for own in _KINDS)
                left = membership_lower(counted, added, removed, changed, sampling)
                found.setdefault(kind, []).append(float((left > 0.5).mean()))
        return found

    def radii(self, setting: Setting) -> Floats:
        """Radius of the whole set's change per test image, -1 where the winner is wrong or the vote abstains."""
        if not setting.sigma:
            return self._certified(np.zeros(len(self.right)))
        return self._certified(subsampled_set_radius(self.triggered[0], setting.sigma, setting.sampling.inclusion))

    def shares(self, setting: Setting, ks: ArrayLike, radii: Floats) -> Floats:
        """Share of test images certified against every number of poisons and every l2 budget, (K, E)."""
        noise, reach = setting.scale, setting.reach(radii)
        if not self.each:
            return certified_share(self.counted, needed_grid(ks, reach, noise, setting.sampling, self.trigger))
        others = self.bounds.others
        return certified_by_pairs(self.counted, others, ks, reach, noise, setting.sampling, self.trigger)

    def paper_radii(self, setting: Setting) -> Floats:
        """The same by the paper's bound, which takes all images to be in every subsample."""
        if not setting.sigma:
            return self._certified(np.zeros(len(self.right)))
        return self._certified(whole_set_radius(*self.triggered, setting.sigma))

    def _certified(self, radii: Floats) -> Floats:
        return np.where(self.right & (self.triggered[0] > 0.5), radii, -1.0)


def claims(plan: CertificatePlan, votes: Votes, alpha: float) -> Claims:
    """Bounds of the votes of ``selection + models`` voters, right for each image with chance 1 - alpha."""
    counts = count_votes(votes[plan.vote.selection :], plan.data.num_classes)
    selection = plan.vote.selection
    chosen = count_votes(votes[:selection], plan.data.num_classes) if selection else None
    each = plan.vote.rivals == "each"
    bounds = vote_bounds(counts, alpha, selection=chosen, runner_up=each)
    return Claims(bounds, bounds.labels == plan.tested.labels.numpy(), each, plan.shift)


def evaluate(plan: CertificatePlan, setting: Setting, votes: Votes, count: int) -> tuple[Certified, dict[str, Any]]:
    """All claims of one setting.

    Args:
        votes: ``(selection + models, T)``.
        count: How many settings are evaluated: claims about the best of them hold for all at once, at alpha / count.

    Returns:
        What the vote withstands, and arrays for pictures and other programs.
    """
    labels, images, alpha = plan.tested.labels.numpy(), len(plan.tested), plan.vote.alpha
    each, together = claims(plan, votes, alpha), claims(plan, votes, alpha / (images * count))
    among = each if count == 1 else claims(plan, votes, alpha / count)
    needed = needed_grid(plan.k, setting.reach(plan.radii), setting.scale, setting.sampling, plan.shift)
    ks, radii = map_axes(plan)
    whole, paper = each.radii(setting), each.paper_radii(setting)
    certified = Certified(
        **asdict(setting.record),
        models=plan.vote.models,
        selection=plan.vote.selection,
        images=images,
        accuracy=float(each.right.mean()),
        voter_accuracy=float((votes[plan.vote.selection :] == labels).mean()),
        abstained=float((each.bounds.winner <= 0.5).mean()),
        certified_unattacked=float((each.counted > 0.5).mean()),
        median_radius=max(0.0, float(np.median(whole))),
        largest_radius=max(0.0, float(np.max(whole))),
        median_paper_radius=max(0.0, float(np.median(paper))),
        largest_paper_radius=max(0.0, float(np.max(paper))),
        table=each.shares(setting, plan.k, plan.radii).tolist(),
        table_all_images=together.shares(setting, plan.k, plan.radii).tolist(),
        table_all_settings=among.shares(setting, plan.k, plan.radii).tolist(),
        needed=needed.tolist(),
        membership=each.membership(setting, plan.k),
    )
    arrays = {
        "counts": count_votes(votes[plan.vote.selection :], plan.data.num_classes),
        "winners": each.bounds.labels,
        "lower_bounds": each.bounds.winner,
        "radii": whole,
        "paper_radii": paper,
        "map_k": ks,
        "map_radius": radii,
        "map_certified": each.shares(setting, ks, radii),
    }
    return certified, arrays


def map_axes(plan: CertificatePlan) -> tuple[NDArray[np.int64], Floats]:
    """Numbers of poisons up to 5 % of the set, and l2 budgets of one image from linf 1/255 to 128/255, for a picture."""
    most = max(2, len(plan.train) // 20, *plan.k)
    points = _GRID if plan.vote.rivals == "together" else _GRID // 3
    ks = np.unique(np.geomspace(1, most, points).round().astype(np.int64))
    unit = np.sqrt(np.prod(plan.data.image_shape))
    return ks, np.geomspace(1 / 255, 128 / 255, points) * unit


def best_of(settings: list[Certified]) -> list[list[dict[str, Any]]]:
    """For each (k, eps) of the table the setting that certifies most and how much: valid for a choice in hindsight."""
    tables = np.array([setting.table_all_settings for setting in settings])
    best = tables.argmax(0)
    return [
        [{"setting": int(best[i, j]), "certified": float(tables[best[i, j], i, j])} for j in range(tables.shape[2])]
        for i in range(tables.shape[1])
    ]


def forecast(plan: CertificatePlan, setting: Setting, pilots: Votes, seconds: float | None) -> Forecast:
    """What a setting promises for the goal, by number of models, from its pilot voters."""
    attacker = plan.attacker
    needed = float(needed_probability(attacker.k, attacker.radius, setting.sigma, setting.sampling, plan.shift))
    votes = (pilots == plan.tested.labels.numpy()).sum(0)
    numbers = sorted({*_PLANNED, plan.vote.models})
    return Forecast(
        **asdict(setting.record),
        needed=needed,
        pilots=len(pilots),
        voter_accuracy=float(votes.mean() / len(pilots)),
        seconds_per_model=seconds,
        models=numbers,
        expected=[expected_certified(votes, len(pilots), needed, n, plan.bound_alpha) for n in numbers],
    )
