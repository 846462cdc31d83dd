"""Refusing an experiment that cannot work, before anything is computed."""

from pathlib import Path

from poison_and_defend.attacks.base import Attack, Scenario
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.task.networks import given_model
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.backbones import BACKBONES


def check_experiment(experiment: Experiment) -> None:
    """Refuse what cannot work, reading data and denoiser but computing nothing.

    Raises:
        InputError: Naming value, bound and option.
    """
    attack, data = experiment.attack, experiment.data
    _check_scenario(attack, experiment.scenario, outside=experiment.outside_threat_model)
    for option, names in (("--surrogate_backbones", experiment.attacker_backbones), ("--victims", experiment.victim_backbones)):
        for name in names:
            if name not in BACKBONES:
                raise InputError(f"{name!r} is not a backbone: choose from {', '.join(BACKBONES)} ({option}, --backbone)")
        if not names or len(set(names)) != len(names):
            raise InputError(f"the backbones are {list(names)}: name at least one, each once ({option})")
    if not experiment.defenses or len(set(experiment.defenses)) != len(experiment.defenses):
        raise InputError(f"defenses are {experiment.defenses}: name at least one, each once (--defenses)")
    positive = ("num_setups", "num_targets", "surrogates", "setups_per_batch", "sanitize_batch_size", "members_per_block")
    for option in (*positive, "threads", "head_views"):
        if getattr(experiment, option) < 1:
            raise InputError(f"{option} is {getattr(experiment, option)}: it must be at least 1 (--{option})")
    if experiment.seed < 0:
        raise InputError(f"seed is {experiment.seed}: it must be at least 0 (--seed)")
    if experiment.num_targets > 1 and not attack.several_targets:
        raise InputError(f"num_targets is {experiment.num_targets}, but {attack.name} aims at one target (--num_targets)")
    attack.budget.check_shape(data.image_shape)
    attack.build_trigger(data.image_shape)
    if experiment.pretraining is not None and experiment.pretraining.image_shape != data.image_shape:
        raise InputError(
            f"pretraining images are {experiment.pretraining.image_shape}, the data's {data.image_shape} (--pretraining)"
        )
    experiment.chosen_setups
    experiment.imported
    experiment.built_defenses
    if experiment.scenario != "from_scratch" and (experiment.pretraining is None or attack.robust_surrogates):
        experiment.public
    _check_surrogates(experiment)


def _check_scenario(attack: Attack, scenario: Scenario, *, outside: bool) -> None:
    if scenario in attack.scenarios or outside:
        return
    allowed = " or ".join(sorted(attack.scenarios))
    raise InputError(
        f"{attack.name} is an attack on {allowed}, not on {scenario} (--scenario; try it with --outside_threat_model true)"
    )


def _check_surrogates(experiment: Experiment) -> None:
    """Refuse weights that do not fit, and classes that are not the data's where the attack looks at logits."""
    attack, given = experiment.attack, experiment.surrogate_weights
    if given is not None:
        if len(given) != len(experiment.attacker_backbones):
            raise InputError(
                f"{len(given)} weight files for {len(experiment.attacker_backbones)} architectures (--surrogate_weights)"
            )
        for backbone, path in zip(experiment.attacker_backbones, given, strict=True):
            given_model(experiment, backbone, Path(path))
    elif attack.robust_surrogates and not experiment.robust_recipe.adversarial_eps:
        raise InputError(
            f"{attack.name} needs adversarially trained surrogates: give their budget (--robust_recipe.adversarial_eps)"
        )
    pretrained = experiment.pretraining
    if not attack.uses_logits or attack.robust_surrogates or pretrained is None or experiment.scenario == "from_scratch":
        return
    if pretrained.num_classes != experiment.data.num_classes:
        raise InputError(
            f"{attack.name} needs surrogates of the data's {experiment.data.num_classes} classes, those pretrained on "
            f"{pretrained.name} have {pretrained.num_classes} (--pretraining)"
        )
