"""Attacking what is certified: poisons inside the budget, crafted against the votes that have least to spare."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, setup_seed
from poison_and_defend.certificate.claims import claims, count_votes
from poison_and_defend.certificate.models import CertifyModels
from poison_and_defend.certificate.plan import CertificatePlan
from poison_and_defend.certificate.setting import Setting
from poison_and_defend.certificate.vote_store import Votes
from poison_and_defend.certificate.voters import Voters, member_rows
from poison_and_defend.certification import needed_probability
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.datamodules import Split
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.reports.certificate.records import Challenge
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import Fit, fit_members, overlay

Rows = NDArray[np.int64]


def challenge(plan: CertificatePlan, setting: Setting, models: CertifyModels, votes: Votes) -> Challenge:
    """Poison the set once for every target, by an attacker who knows the extractor, and count the votes again.

    Poisons have the class of the runner-up. Voters that drew no poison vote as before, noise and seeds being the same, so that
    only the others are trained again. Beside it the same poisons against one head on the raw features of the whole set.

    Args:
        votes: ``(selection + models, T)`` votes on the received set.
    """
    shown = models.ranks.rank == 0
    # One rank does this alone: what it reads is there, and no other would answer at a barrier.
    alone = replace(models, ranks=Ranks(device=models.ranks.device))
    return _Challenge(plan, setting, alone, votes).run(shown=shown)


@dataclass(frozen=True, eq=False)
class _Challenge:
    """The attacker of a plan against one setting."""

    plan: CertificatePlan
    setting: Setting
    models: CertifyModels
    votes: Votes

    @cached_property
    def needed(self) -> float:
        """Probability above which his budget cannot change a vote."""
        attacker, setting = self.plan.attacker, self.setting
        return float(needed_probability(attacker.k, attacker.radius, setting.sigma, setting.sampling))

    @cached_property
    def counting(self) -> Votes:
        """Votes of the models that are counted."""
        return self.votes[self.plan.vote.selection :]

    def run(self, *, shown: bool) -> Challenge:
        attacker, classes = self.plan.attacker, self.plan.data.num_classes
        targets, winners = self.targets()
        if not len(targets):
            return Challenge(targets=0, k=attacker.k, eps=str(attacker.eps))
        counts = count_votes(self.counting, classes)[targets]
        poison_sets = self.poisons(targets, counts)
        before = [int(counts[number, winner]) for number, winner in enumerate(winners.tolist())]
        after, flips, retrained = [], 0, 0
        voters, _ = self.models.voters(self.setting)
        with StoreProgress("challenge certified targets", enabled=shown) as bar:
            for number, (target, winner, poisons) in enumerate(zip(targets, winners, poison_sets, strict=True)):
                found, touched = self.recount(voters, int(target), poisons)
                after.append(int(found[winner]))
                flips += int(found.argmax() != winner)
                retrained += touched
                bar(number + 1, len(targets), f"targets, {flips} flipped")
        return Challenge(
            k=attacker.k,
            eps=str(attacker.eps),
            attack=BullseyePolytope.name,
            targets=len(targets),
            flips=flips,
            undefended_flips=self.undefended(targets, poison_sets),
            votes_before=before,
            votes_after=after,
            needed=self.needed,
            retrained=retrained,
        )

    def targets(self) -> tuple[Rows, Rows]:
        """The certified test images that have least to spare, and the winner of each."""
        found = claims(self.plan, self.votes, self.plan.vote.alpha)
        certified = np.flatnonzero(found.right & (found.bounds.winner > self.needed))
        least = certified[np.argsort(found.bounds.winner[certified], kind="stable")][: self.plan.attacker.targets]
        return least, np.asarray(found.bounds.labels)[least]

    def poisons(self, targets: Rows, counts: Rows) -> list[PoisonSet]:
        """Poisons of the runner-up's class for each target, by an attacker who knows the extractor.

        Args:
            counts: ``(targets, classes)`` votes.
        """
        plan, k, train = self.plan, self.plan.attacker.k, self.plan.train
        test, labels = plan.data.split("test"), train.labels.numpy()
        setups = []
        for number, target in enumerate(targets.tolist()):
            true = int(test.labels[target])
            others = counts[number].astype(float)
            others[true] = -1
            # A class with too few images to perturb cannot be the attacker's.
            others[np.bincount(labels, minlength=len(others)) < k] = -1
            wanted, seed = int(others.argmax()), setup_seed(plan.seed, number)
            bases = np.random.default_rng(seed).choice(np.flatnonzero(labels == wanted), k, replace=False)
            setups.append(Setup(number, seed, target, true, wanted, bases))
        attack = BullseyePolytope(plan.attacker.eps, plan.norm, steps=plan.attacker.steps)
        extractor, device = self.models.extractor(self.setting.sigma), self.models.ranks.device
        return attack.craft(setups, train.images, train.labels, test.images, [extractor], device=device)

    def recount(self, voters: Voters, target: int, poisons: PoisonSet) -> tuple[Rows, int]:
        """Votes ``(classes,)`` on a target once the set is poisoned, and how many voters had drawn a poison."""
        train, selection, bases = self.plan.train, self.plan.vote.selection, poisons.setup.base_indices
        touched = [m for m, drawn in enumerate(self._rows) if drawn & set(bases.tolist())]
        images = train.images.clone()
        images[torch.from_numpy(bases)] = poisons.images
        attacked = replace(voters, split=Split(images, train.labels), tested=voters.tested[target : target + 1])
        again = self.counting[:, target].copy()
        if touched:
            again[touched] = attacked.train([selection + m for m in touched], self.models.ranks)[0][:, 0]
        return np.bincount(again, minlength=self.plan.data.num_classes), len(touched)

    @cached_property
    def _rows(self) -> list[set[int]]:
        """The rows that each counted model drew."""
        seed, selection = self.models.randomness.seed, self.plan.vote.selection
        sampling = self.setting.sampling
        return [set(member_rows(sampling, seed, selection + m).tolist()) for m in range(len(self.counting))]

    def undefended(self, targets: Rows, poison_sets: list[PoisonSet]) -> int:
        """How many targets one head on all raw features reads as the attacker wants: what the poisons can do undefended."""
        plan, train, ranks = self.plan, self.plan.train, self.models.ranks
        extractor = self.models.extractor(self.setting.sigma)

        def features(images: Tensor) -> Tensor:
            return extract_features(extractor, images, ranks.device)

        pool_rows, rows = overlay([p.setup for p in poison_sets], len(train))
        states = fit_members(
            lambda seed: fresh_head(extractor.num_features, plan.data.num_classes, seed),
            [p.setup.seed for p in poison_sets],
            EnsembleData(
                torch.cat([features(train.images), *(features(p.images) for p in poison_sets)]), train.labels[pool_rows], rows
            ),
            plan.learner.recipe,
            ranks,
            Fit(per_block=len(poison_sets), threads=plan.speed.threads),
        )
        tested = features(plan.tested.images[torch.from_numpy(targets)])
        read = {number: (tested[number] @ s["weight"].T + s["bias"]).argmax() for number, s in states.items()}
        return sum(int(label == poison_sets[number].setup.adversarial_label) for number, label in read.items())
