"""Attacking what is certified: poisons inside the budget, crafted against the votes that have least to spare."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks import BullseyePolytope
from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup, setup_seed
from poison_and_defend.certificate.claims import claims, count_votes
from poison_and_defend.certificate.models import CertifyModels
from poison_and_defend.certificate.task import CertifyTask, Setting
from poison_and_defend.certificate.vote_store import Votes
from poison_and_defend.certificate.voters import member_rows
from poison_and_defend.certification import needed_probability
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.datamodules import Split
from poison_and_defend.lightning_modules.classifier import fresh_head
from poison_and_defend.lightning_modules.ensemble import EnsembleData
from poison_and_defend.training.features import extract_features
from poison_and_defend.training.members import fit_members


def challenge(task: CertifyTask, setting: Setting, models: CertifyModels, votes: Votes) -> dict[str, Any]:
    """Poison the set once for every target, by an attacker who knows the extractor, and count the votes again.

    Poisons have the class of the runner-up. Voters that drew no poison vote as before, noise and seeds being the same, so that
    only the others are trained again. Beside it the same poisons against one head on the raw features of the whole set.

    Args:
        votes: ``(selection + models, T)`` votes on the received set.

    Returns:
        Counts: targets, flips of the vote and of the undefended head, the winner's votes before and after, and the fewest that
        the certificate allows.
    """
    shown, ranks = models.ranks.rank == 0, Ranks(device=models.ranks.device)
    # One rank does this alone: what it reads is there, and no other would answer at a barrier.
    models = replace(models, ranks=ranks)
    found, own = claims(task, votes, task.alpha), votes[task.selection :]
    needed = float(needed_probability(task.goal_k, task.goal_radius, setting.sigma, setting.sampling))
    certified = np.flatnonzero(found.right & (found.bounds.winner > needed))
    targets = certified[np.argsort(found.bounds.winner[certified], kind="stable")][: task.challenge]
    if not len(targets):
        return {"targets": 0, "k": task.goal_k, "eps": str(task.goal_eps)}
    counts = count_votes(own, task.data.num_classes)[targets]
    poison_sets = _craft(task, setting, models, targets, counts, ranks)
    rows = [set(member_rows(setting.sampling, task.voting_seed, task.selection + m).tolist()) for m in range(len(own))]
    voters, _ = models.voters(setting)
    train = task.data.split("train")
    before, after, flips, retrained = [], [], 0, 0
    with StoreProgress("challenge certified targets", enabled=shown) as bar:
        for number, (target, poisons) in enumerate(zip(targets.tolist(), poison_sets, strict=True)):
            bases = poisons.setup.base_indices
            touched = [m for m, drawn in enumerate(rows) if drawn & set(bases.tolist())]
            images = train.images.clone()
            images[torch.from_numpy(bases)] = poisons.images
            attacked = replace(voters, split=Split(images, train.labels), tested=voters.tested[target : target + 1])
            again = own[:, target].copy()
            if touched:
                again[touched] = attacked.train([task.selection + m for m in touched], ranks)[0][:, 0]
            new = np.bincount(again, minlength=task.data.num_classes)
            winner = int(found.bounds.labels[target])
            before.append(int(counts[number, winner]))
            after.append(int(new[winner]))
            flips += int(new.argmax() != winner)
            retrained += len(touched)
            bar(number + 1, len(targets), f"targets, {flips} flipped")
    return {
        "attack": BullseyePolytope.name,
        "k": task.goal_k,
        "eps": str(task.goal_eps),
        "targets": len(targets),
        "flips": flips,
        "undefended_flips": _undefended(task, setting, models, targets, poison_sets, ranks),
        "votes_before": before,
        "votes_after": after,
        "needed": needed,
        "retrained": retrained,
    }


def _craft(
    task: CertifyTask, setting: Setting, models: CertifyModels, targets: np.ndarray, counts: np.ndarray, ranks: Ranks
) -> list[PoisonSet]:
    train, test = task.data.split("train"), task.data.split("test")
    labels = train.labels.numpy()
    setups = []
    for number, target in enumerate(targets.tolist()):
        true = int(test.labels[target])
        others = counts[number].astype(float)
        others[true] = -1
        # A class with too few images to perturb cannot be the attacker's.
        others[np.bincount(labels, minlength=len(others)) < task.goal_k] = -1
        wanted, seed = int(others.argmax()), setup_seed(task.seed, number)
        bases = np.random.default_rng(seed).choice(np.flatnonzero(labels == wanted), task.goal_k, replace=False)
        setups.append(Setup(number, seed, target, true, wanted, bases))
    attack = BullseyePolytope(task.goal_eps, task.norm, steps=task.challenge_steps)
    extractor = models.extractor(setting.sigma)
    return attack.craft(setups, train.images, train.labels, test.images, [extractor], device=ranks.device)


def _undefended(
    task: CertifyTask, setting: Setting, models: CertifyModels, targets: np.ndarray, poison_sets: list[PoisonSet], ranks: Ranks
) -> int:
    """How many targets one head on all raw features reads as the attacker wants: what the poisons can do undefended."""
    train, extractor = task.data.split("train"), models.extractor(setting.sigma)

    def features(images: Tensor) -> Tensor:
        return extract_features(extractor, images, ranks.device)

    pool = torch.cat([features(train.images), *(features(p.images) for p in poison_sets)])
    bases = [torch.from_numpy(p.setup.base_indices) for p in poison_sets]
    rows = torch.arange(len(train)).repeat(len(poison_sets), 1)
    for number, own in enumerate(bases):
        rows[number, own] = len(train) + number * task.goal_k + torch.arange(task.goal_k)
    labels = torch.cat([train.labels, *(train.labels[own] for own in bases)])
    states = fit_members(
        lambda seed: fresh_head(extractor.num_features, task.data.num_classes, seed),
        [p.setup.seed for p in poison_sets],
        EnsembleData(pool, labels, rows),
        task.recipe,
        ranks,
        per_block=len(poison_sets),
        threads=task.threads,
        text="",
    )
    tested = features(task.tested.images[torch.from_numpy(targets)])
    hits = 0
    for number, state in states.items():
        read = (tested[number] @ state["weight"].T + state["bias"]).argmax()
        hits += int(read == poison_sets[number].setup.adversarial_label)
    return hits
