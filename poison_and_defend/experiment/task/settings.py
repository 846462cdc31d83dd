"""What the numbers of every arm depend on, as JSON can hold it: what an experiment's folder is compared with, and named by.

What one arm depends on besides is kept with its results, so that another arm may join them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.attacks.threat.setups import Setup
from poison_and_defend.core.files import digest
from poison_and_defend.core.hashing import checksum_file, hash_array
from poison_and_defend.core.reading.files import guarded
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.experiment.task.networks import Networks
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.images.arrays import hash_split
from poison_and_defend.lightning_modules.networks.identity import network_identity

AFTER_CRAFTING = ("victims", "victim_networks", "victim_recipe", "head_views", "sanitize_batch_size")
"""Settings that say what happens to poisons once they are made, whatever the arm."""


def settings_of(
    experiment: Experiment,
    setups: Sequence[Setup],
    rows: NDArray[np.int64],
    imported: Sequence[PoisonSet] | None,
    public: Split | None,
    networks: Networks,
) -> dict[str, Any]:
    """Settings by name; not where results are kept or on how many ranks they are made.

    Raises:
        InputError: If weights that were given cannot be read.
    """
    attack, data = experiment.threat.attack, experiment.setups.data
    chosen = [(*s.target_indices, s.adversarial_label, s.seed, *s.base_indices.tolist()) for s in setups]
    with guarded("the surrogates' weights", "no weights", "--surrogate_weights"):
        weights = [checksum_file(path) for path in networks.weights]
    trigger = attack.build_trigger(data.image_shape)
    pretraining, victims, speed = experiment.surrogates.pretraining, experiment.victims, experiment.speed
    return {
        "data": _identify(data) | {"test": hash_split(data.split("test"))},
        "public": None if public is None else hash_split(public),
        "attack": attack.arguments(),
        "trigger": None if trigger is None else hash_array(trigger.pattern.numpy()),
        "scenario": experiment.threat.scenario,
        "surrogate_backbones": list(networks.attackers),
        "surrogate_weights": weights,
        "poisons_from": None if imported is None else [hash_array(p.images.numpy()) for p in imported],
        "victims": experiment.victim_names,
        "pretraining": None if pretraining is None else _identify(pretraining),
        "dropout": networks.dropout,
        "precision": experiment.surrogates.precision,
        "setups": digest(chosen),
        "num_setups": len(chosen),
        "num_poisons": len(setups[0].base_indices),
        "rows": hash_array(rows),
        "surrogates": networks.per_attacker,
        "feature_recipe": None if networks.frozen else networks.recipe.settings(),
        "robust_recipe": networks.robust_recipe.settings(networks.robust_training) if networks.robust else None,
        "victim_recipe": victims.victim_recipe.settings(),
        "head_views": victims.head_views,
        "seed": experiment.place.seed,
        "setups_per_batch": speed.setups_per_batch,
        "sanitize_batch_size": speed.sanitize_batch_size,
        "members_per_block": speed.members_per_block,
        "threads": speed.threads,
        **_described("surrogate_networks", networks, networks.attackers),
        **_described("victim_networks", networks, experiment.victim_names),
    }


def _described(key: str, networks: Networks, names: Sequence[str]) -> dict[str, Any]:
    """What the networks of these names are; nothing is said of those that are their names and no more."""
    known = {name: networks.described[name] for name in names if not networks.described[name].plain}
    return {key: {name: network_identity(network) for name, network in known.items()}} if known else {}


def _identify(data: ArrayDataModule) -> dict[str, Any]:
    """What training on a data set depends on."""
    return {
        "name": data.name,
        "train": hash_split(data.split("train")),
        "num_classes": data.num_classes,
        "normalization": [list(data.mean), list(data.std)],
    }
