"""What filters say of every setup's set: shared among ranks, kept one file a setup, read back by all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import digest
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.reading.files import brief
from poison_and_defend.defenses.arm import Arm
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.steps.training_sets import pool_of, received_keys, same_length
from poison_and_defend.experiment.steps.verdict_files import load_verdict, save_verdict, verdict_path
from poison_and_defend.experiment.steps.victim_networks import VictimNetworks
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import Fit, fit_members

# Added to a victim's seed: the network that a filter looks through is another one. torch's CPU generator looks at the lowest 32
# bits alone.
_FILTERS_NETWORK = 2**31


@dataclass(frozen=True, eq=False)
class Judgement:
    """What became of one setup's set in an arm.

    Attributes:
        positions: ``(n,)`` int64, the positions of the setup's training set that stay, in order.
        scores: ``(N,)`` float, of the arm's first filter, which saw all rows.
        poisons: ``(N,)`` bool: the truth.
    """

    positions: Tensor
    scores: Tensor
    poisons: Tensor

    def shares(self) -> dict[str, float | None]:
        """AUROC of the scores, and the shares of poisons and of clean rows that were dropped; None without poisons."""
        dropped = torch.ones(len(self.scores), dtype=torch.bool)
        dropped[self.positions] = False
        clean = float(dropped[~self.poisons].float().mean())
        if not self.poisons.any():
            return {"auroc": None, "poisons_dropped": None, "clean_dropped": clean}
        return {
            "auroc": auroc(self.scores, self.poisons),
            "poisons_dropped": float(dropped[self.poisons].float().mean()),
            "clean_dropped": clean,
        }


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The chance that a poison's score is above a clean row's, ties counted half (the area under the ROC curve)."""
    from scipy.stats import rankdata

    ranks = rankdata(scores.double().numpy())
    mask = positive.numpy()
    count, others = int(mask.sum()), int((~mask).sum())
    return float((ranks[mask].sum() - count * (count + 1) / 2) / (count * others))


def judge_all(
    plan: ExperimentPlan,
    arm: Arm,
    networks: VictimNetworks,
    poison_sets: Sequence[PoisonSet],
    images: Sanitized,
    ranks: Ranks,
) -> list[Judgement]:
    """What the filters of an arm leave of every setup's set, on every rank.

    Args:
        arm: With at least one filter.
        networks: How the victims are made, through whose features filters look.
        poison_sets: Of all setups.
        images: Training images as the arm's rewriters leave them.

    Raises:
        InputError: If verdicts are there that something else made, or a filter keeps no row of a class.
    """
    sets = _Sets(plan, arm, networks, poison_sets, images, ranks)
    kept = [torch.arange(len(keys)) for keys in sets.keys]
    scores: list[Tensor] = []
    for place, one in enumerate(arm.filters):
        verdicts = _Round(sets, one, place, kept).verdicts()
        scores = scores or [verdict.scores for verdict in verdicts]
        kept = [rows[verdict.kept] for rows, verdict in zip(kept, verdicts, strict=True)]
    return [Judgement(*parts) for parts in zip(kept, scores, sets.truth, strict=True)]


@dataclass(frozen=True, eq=False)
class _Sets:
    """All setups' sets as an arm's filters get them."""

    plan: ExperimentPlan
    arm: Arm
    networks: VictimNetworks
    poison_sets: Sequence[PoisonSet]
    images: Sanitized
    ranks: Ranks

    @cached_property
    def keys(self) -> list[Tensor]:
        return received_keys(self.plan, self.poison_sets)

    @cached_property
    def truth(self) -> list[Tensor]:
        """Of every setup ``(N,)`` bool: which rows the attacker changed; none in an arm without attack."""
        found = []
        for poisons, keys in zip(self.poison_sets, self.keys, strict=True):
            own = torch.zeros(len(keys), dtype=torch.bool)
            own[torch.from_numpy(poisons.setup.positions)] = self.arm.attacked
            found.append(own)
        return found

    @cached_property
    def pool(self) -> tuple[Tensor, Tensor, Tensor]:
        return pool_of(self.plan, self.poison_sets, [self.images])

    @cached_property
    def frozen_features(self) -> Tensor:
        """Of every row of the pool, through the extractor that all victims share."""
        assert self.networks.base is not None
        return extract_features(self.networks.base, self.pool[0], self.ranks.device)


@dataclass(frozen=True, eq=False)
class _Round:
    """One filter of an arm on what those before it left."""

    sets: _Sets
    filter: Filter
    place: int
    kept: list[Tensor]

    @property
    def folder(self) -> Path:
        sets = self.sets
        return sets.plan.folder / "verdicts" / sets.arm.name / sets.networks.file_name / f"{self.place}_{self.filter.name}"

    @cached_property
    def made_with(self) -> str:
        """What the verdicts depend on besides the experiment, whose folder holds no other's."""
        sets = self.sets
        filters = sets.arm.filters[: self.place + 1]
        steps: list[Any] = [step.settings() for step in (*sets.arm.rewriters, *filters)]
        told = sets.plan.told if any(step.told_of == "bound" for step in filters) else None
        return digest([sets.plan.crafted_with, sets.arm.attacked, steps, told, sets.networks.victim])

    @property
    def bound(self) -> int | None:
        """What the run tells this filter of the number of poisons."""
        return self.sets.plan.told if self.filter.told_of == "bound" else None

    def verdicts(self) -> list[Verdict]:
        """Judge what is missing, and read everything back."""
        setups, ranks = range(len(self.kept)), self.sets.ranks
        pending = [setup for setup in setups if not self._path(setup).with_suffix(".json").exists()]
        ranks.barrier("missing verdicts counted")
        if pending:
            _, labels, places = self.sets.pool
            for setup in pending:
                # What a filter before this one left may be too little for it: better said before networks are trained.
                self.filter.check_set(labels[places[setup][self.kept[setup]]], self.bound)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._judge(pending)
        ranks.barrier("verdicts kept")
        return [self._read(setup) for setup in setups]

    def _path(self, setup: int) -> Path:
        return verdict_path(self.folder, self.sets.poison_sets[setup].setup.index)

    def _read(self, setup: int) -> Verdict:
        record, verdict = load_verdict(self._path(setup), len(self.kept[setup]))
        if record.get("made_with") != self.made_with:
            raise InputError(
                f"{self._path(setup)} was made with other settings ({brief(record.get('made_with', 'unknown'))}, not "
                f"{self.made_with}): call the arm otherwise, or remove its verdicts (--arms.{self.sets.arm.name})"
            )
        return verdict

    def _judge(self, pending: list[int]) -> None:
        sets, ranks = self.sets, self.sets.ranks
        trained = self.filter.needs == "features" and not sets.networks.shared
        text = f"judge ({sets.arm.name}, {self.filter.name})"
        with StoreProgress(text, enabled=ranks.rank == 0) as bar:
            done = 0
            for chunk in self._chunks(pending) if trained else [pending]:
                models = self._trained(chunk) if trained else dict.fromkeys(chunk[ranks.rank :: ranks.world])
                for setup, model in models.items():
                    received = self.received(setup)
                    verdict = self.filter.judge(received, self._workshop(setup, received, model)).check(
                        received, self.filter.name
                    )
                    told = {
                        "told": self.filter.told(self.bound),
                        "made_with": self.made_with,
                        "setup": sets.poison_sets[setup].setup.index,
                    }
                    save_verdict(self._path(setup), verdict, told)
                    done += 1
                    bar(min(len(pending), done * ranks.world), len(pending))

    def _chunks(self, pending: list[int]) -> Iterator[list[int]]:
        """As many setups as are trained together on all ranks: what a kill can cost."""
        size = self.sets.plan.speed.members_per_block * self.sets.ranks.world
        for start in range(0, len(pending), size):
            yield pending[start : start + size]

    def received(self, setup: int) -> Received:
        """One setup's set."""
        sets, rows = self.sets, self.kept[setup]
        pool, labels, places = sets.pool
        own = places[setup][rows]
        return Received(
            pool[own],
            labels[own],
            sets.keys[setup][rows],
            sets.plan.data.num_classes,
            self.bound,
            sets.poison_sets[setup].setup.seed,
            sets.truth[setup][rows] if self.filter.told_of == "poisons" else None,
        )

    def _data(self, setups: Sequence[int]) -> EnsembleData:
        pool, labels, places = self.sets.pool
        return EnsembleData(pool, labels, same_length([places[setup][self.kept[setup]] for setup in setups]))

    def _trained(self, setups: list[int]) -> dict[int, nn.Module]:
        """Networks of this rank's setups, each trained on the whole set as its victim would be without a filter."""
        sets = self.sets
        seeds = [sets.poison_sets[setup].setup.seed + _FILTERS_NETWORK for setup in setups]
        speed = sets.plan.speed
        states = fit_members(
            sets.networks.build,
            seeds,
            self._data(setups),
            sets.plan.victim_recipe,
            sets.ranks,
            Fit(
                per_block=speed.members_per_block,
                threads=speed.threads,
                text=f"train {len(setups)} {sets.networks.victim} networks for {self.filter.name}",
                frozen_statistics=sets.networks.fine_tuned,
            ),
        )
        return {setups[number]: sets.networks.with_state(state).to(sets.ranks.device) for number, state in states.items()}

    def _workshop(self, setup: int, received: Received, model: nn.Module | None) -> Workshop:
        sets, rows = self.sets, self.kept[setup]

        def features() -> Tensor:
            if model is None:
                return sets.frozen_features[sets.pool[2][setup][rows]]
            return extract_features(model, received.images, sets.ranks.device)  # type: ignore[arg-type]

        def network() -> nn.Module:
            found = sets.networks.looked_through(sets.ranks.device) if model is None else model
            assert found is not None
            return found

        return Workshop(network, features, partial(self._train_on, setup, received))

    def _train_on(self, setup: int, received: Received, parts: Sequence[Tensor]) -> list[nn.Module]:
        """Networks for a filter that asks for more, each trained as a victim on a part of the set; by this rank alone."""
        sets, base = self.sets, self.sets.networks.base
        inputs = received.images
        if sets.networks.shared and base is not None:
            inputs = extract_features(base, inputs, sets.ranks.device)
        seed = sets.poison_sets[setup].setup.seed + _FILTERS_NETWORK
        states = fit_members(
            sets.networks.build,
            [seed + (number + 1) * 2**14 for number in range(len(parts))],
            EnsembleData(inputs, received.labels, same_length(parts)),
            sets.plan.victim_recipe,
            Ranks(device=sets.ranks.device),
            Fit(
                per_block=sets.plan.speed.members_per_block,
                threads=sets.plan.speed.threads,
                frozen_statistics=sets.networks.fine_tuned,
            ),
        )
        return [sets.networks.with_state(states[number]).to(sets.ranks.device) for number in range(len(parts))]
