"""Surrogates that are trained anew while poisons are crafted."""

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import Retrain, Surrogate
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.defenses.training.course import State
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.lightning_modules.member_data import EnsembleData
from poison_and_defend.training.features import frozen
from poison_and_defend.training.kept_models import ModelSpec
from poison_and_defend.training.members import Fit, fit_members, overlay


def retrainer(plan: ExperimentPlan, ranks: Ranks) -> Retrain:
    """Surrogates from new initialisations, trained on what each setup's victim would train on; one rank by itself."""
    rounds, networks = count(1), plan.networks

    def retrain(setups: Sequence[Setup], poisons: Tensor) -> list[list[Surrogate]]:
        data, number = _poisoned_sets(plan, setups, poisons), next(rounds)
        trained: list[list[Surrogate]] = [[] for _ in setups]
        for network in networks.attackers:
            spec = networks.standard(network)
            for own in range(networks.per_attacker):
                seeds = [setup.seed ^ (1_000_003 * (number * 1000 + own)) for setup in setups]
                states = fit_members(
                    spec.build,
                    seeds,
                    data,
                    networks.recipe,
                    Ranks(device=ranks.device),
                    Fit(per_block=plan.speed.members_per_block, threads=plan.speed.threads),
                )
                for place, state in states.items():
                    trained[place].append(_surrogate(spec, state, ranks.device, networks.low_precision))
        return trained

    return retrain


def _surrogate(spec: ModelSpec, state: State, device: torch.device, low_precision: bool) -> Surrogate:
    model = spec.build()
    model.load_state_dict(state)
    model = frozen(model, device)
    return LowPrecision(model) if low_precision else model


def _poisoned_sets(plan: ExperimentPlan, setups: Sequence[Setup], poisons: Tensor) -> EnsembleData:
    """Each setup's training set as it now stands: over a pool of all training images, and after them the poisons."""
    train = plan.data.split("train")
    images = (poisons.detach().cpu() * 255).round().to(torch.uint8)
    pool_rows, rows = overlay(setups, len(train))
    return EnsembleData(torch.cat([train.images, images.flatten(0, 1)]), train.labels[pool_rows], rows)
