"""Options of an experiment that cannot work, refused before its images are read."""

from poison_and_defend.attacks.base import Attack, Scenario
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.task.network_checks import check_networks
from poison_and_defend.experiment.task.networks import Networks
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.recipe import Recipe


def check_options(experiment: Experiment) -> None:
    """Refuse options that cannot work whatever the images are.

    Raises:
        InputError: Naming value, bound and option.
    """
    attack, data, options = experiment.threat.attack, experiment.setups.data, experiment.surrogates
    _check_scenario(attack, experiment.threat.scenario, outside=experiment.threat.outside_threat_model)
    _check_augmentation(attack, experiment.victims.victim_recipe, outside=experiment.threat.outside_threat_model)
    setups, speed = experiment.setups, experiment.speed
    at_least("num_setups", setups.num_setups, 1)
    at_least("num_targets", setups.num_targets, 1)
    at_least("surrogates", options.surrogates, 1)
    at_least("setups_per_batch", speed.setups_per_batch, 1)
    at_least("sanitize_batch_size", speed.sanitize_batch_size, 1)
    at_least("members_per_block", speed.members_per_block, 1)
    at_least("threads", speed.threads, 1)
    at_least("head_views", experiment.victims.head_views, 1)
    at_least("seed", experiment.place.seed, 0)
    at_least("poisons_told", experiment.comparison.poisons_told or 0, 0)
    if setups.num_targets > 1 and not attack.several_targets:
        raise InputError(f"num_targets is {setups.num_targets}, but {attack.name} aims at one target (--num_targets)")
    attack.budget.check_shape(data.image_shape)
    attack.build_trigger(data.image_shape)
    if options.pretraining is not None and options.pretraining.image_shape != data.image_shape:
        shape = options.pretraining.image_shape
        raise InputError(f"pretraining images are {shape}, the data's {data.image_shape} (--pretraining)")
    _check_one_class(experiment)
    if options.frozen:
        _check_frozen(experiment)
    check_networks(experiment)


def _check_one_class(experiment: Experiment) -> None:
    """An attacker who knows one class brings the others, and no network of his can serve several classes."""
    attack, options = experiment.threat.attack, experiment.surrogates
    if attack.one_class is None or experiment.threat.poisons_from is not None:
        return
    if options.surrogate_weights is not None:
        raise InputError(
            f"surrogate_weights are given, but {attack.name} trains surrogates for every adversarial class itself "
            "(--surrogate_weights)"
        )
    if options.pretraining is None:
        raise InputError(
            f"{attack.name} needs public images of other classes for its surrogates, which are trained on those and on the "
            "adversarial class: name a data set (--pretraining TinyImageNetDataModule)"
        )


def _check_frozen(experiment: Experiment) -> None:
    """Networks that are taken as they come must come with weights, and nobody may ask for what only training gives."""
    options, attack = experiment.surrogates, experiment.threat.attack
    if experiment.threat.scenario != "transfer":
        raise InputError(
            f"frozen goes with transfer learning, and the scenario is {experiment.threat.scenario}: all layers are trained "
            "there (--frozen, --scenario)"
        )
    # Whoever trains robust surrogates trains them himself, of any architecture.
    taken = {*experiment.victim_names, *(() if attack.robust_surrogates else experiment.attackers)}
    for name, network in experiment.described.items():
        if name in taken and not network.trained:
            raise InputError(
                f"{name} has no weights to be frozen with: name their file, or another network such as efficientnet_lite0 "
                "(--network, --network.weights)"
            )
    given = {
        "--pretraining": options.pretraining is not None,
        "--surrogate_weights": options.surrogate_weights is not None,
        "--surrogates": options.surrogates > 1,
    }
    for option, said in given.items():
        if said:
            raise InputError(f"frozen networks are not trained, and there is one of each: leave {option} away (--frozen)")
    if attack.uses_logits and not attack.robust_surrogates and experiment.threat.poisons_from is None:
        raise InputError(f"{attack.name} needs surrogates whose heads are trained, and frozen ones have none (--frozen)")


def _check_scenario(attack: Attack, scenario: Scenario, *, outside: bool) -> None:
    if scenario in attack.scenarios or outside:
        return
    allowed = " or ".join(sorted(attack.scenarios))
    raise InputError(
        f"{attack.name} is an attack on {allowed}, not on {scenario} (--scenario; try it with --outside_threat_model true)"
    )


def _check_augmentation(attack: Attack, victims: Recipe, *, outside: bool) -> None:
    """Refuse an attacker who knows an augmentation that his victims do not have."""
    if not attack.augmentation or victims.augments or outside:
        return
    raise InputError(
        f"{attack.name} is told of an augmentation (max_shift {attack.augmentation.max_shift:g}, flip "
        f"{str(attack.augmentation.flip).lower()}) that its victims train without: take it from the attack or give it to them "
        "(--attack.max_shift 0 --attack.flip false, or --victim_recipe.max_shift; try it with --outside_threat_model true)"
    )


def check_surrogates(experiment: Experiment, networks: Networks) -> None:
    """Refuse weights that do not fit, and classes that are not the data's where the attack looks at logits.

    Raises:
        InputError: Naming value and option.
    """
    attack, pretrained = experiment.threat.attack, experiment.surrogates.pretraining
    if experiment.surrogates.surrogate_weights is not None:
        if len(networks.weights) != len(networks.attackers):
            raise InputError(
                f"{len(networks.weights)} weight files for {len(networks.attackers)} architectures (--surrogate_weights)"
            )
        networks.given()
    elif attack.robust_surrogates and networks.robust_training is None:
        raise InputError(
            f"{attack.name} needs adversarially trained surrogates: give their budget (--robust_training.eps 8/255)"
        )
    own_classes = attack.robust_surrogates or attack.one_class is not None or experiment.threat.scenario == "from_scratch"
    if not attack.uses_logits or own_classes or pretrained is None:
        return
    if pretrained.num_classes != networks.data.num_classes:
        raise InputError(
            f"{attack.name} needs surrogates of the data's {networks.data.num_classes} classes, those pretrained on "
            f"{pretrained.name} have {pretrained.num_classes} (--pretraining)"
        )
