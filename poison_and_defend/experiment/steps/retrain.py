"""Surrogates that are trained anew while poisons are crafted."""

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from poison_and_defend.attacks.crafting.precision import LowPrecision
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.attacks.threat.surrogate import Retrain, Surrogate
from poison_and_defend.core.ranks import Ranks
from poison_and_defend.experiment.task.networks import standard_spec
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.ensemble import EnsembleData
from poison_and_defend.training.features import frozen
from poison_and_defend.training.members import fit_members


def retrainer(experiment: Experiment, ranks: Ranks) -> Retrain:
    """Surrogates from new initialisations, trained on what each setup's victim would train on; one rank by itself."""
    train, rounds = experiment.data.split("train"), count(1)
    alone = Ranks(device=ranks.device)

    def retrain(setups: Sequence[Setup], poisons: Tensor) -> list[list[Surrogate]]:
        images = (poisons.detach().cpu() * 255).round().to(torch.uint8)
        rows = torch.stack([torch.from_numpy(setup.rows(len(train))).clone() for setup in setups])
        pool_rows = torch.cat([train.labels, *(train.labels[torch.from_numpy(s.base_indices)] for s in setups)])
        for place, setup in enumerate(setups):
            width = len(setup.base_indices)
            rows[place, torch.from_numpy(setup.positions)] = len(train) + place * width + torch.arange(width)
        pool = torch.cat([train.images, images.flatten(0, 1)])
        number, result = next(rounds), [list[Surrogate]() for _ in setups]
        for backbone in experiment.attacker_backbones:
            spec = standard_spec(experiment, backbone, 0)
            for own in range(experiment.surrogates):
                seeds = [setup.seed ^ (1_000_003 * (number * 1000 + own)) for setup in setups]
                states = fit_members(
                    spec.build,
                    seeds,
                    EnsembleData(pool, pool_rows, rows),
                    experiment.feature_recipe,
                    alone,
                    per_block=experiment.members_per_block,
                    threads=experiment.threads,
                    text="",
                )
                for place, state in states.items():
                    model = spec.build()
                    model.load_state_dict(state, strict=False)
                    model = frozen(model, ranks.device)
                    result[place].append(LowPrecision(model) if experiment.precision == "bfloat16" else model)
        return result

    return retrain
