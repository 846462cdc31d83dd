"""Networks that cannot do what an experiment asks of them, refused before anything is trained."""

from poison_and_defend.attacks.crafting.second_order import refuse_once_differentiable
from poison_and_defend.core.errors import InputError
from poison_and_defend.experiment.task.options import Experiment
from poison_and_defend.lightning_modules.networks.check import check_network
from poison_and_defend.lightning_modules.networks.spec import OURS


def check_networks(experiment: Experiment) -> None:
    """Build every network that is not one of ours as it is, and try it on two images of the data's shape.

    Raises:
        InputError: Naming value and option.
    """
    _check_names(experiment)
    data, options, attack = experiment.setups.data, experiment.surrogates, experiment.threat.attack
    for name, network in experiment.described.items():
        attacker = name in experiment.attackers
        # Victims from scratch have no dropout between their blocks; extractors have the surrogates'.
        dropping = attacker or experiment.threat.scenario != "from_scratch"
        model = check_network(
            network, data.image_shape, data.num_classes, _option(experiment, name), options.dropout if dropping else 0.0
        )
        if model is not None and attacker and attack.differentiates_twice and experiment.threat.poisons_from is None:
            refuse_once_differentiable(model, data.image_shape, name, attack.name, _option(experiment, name))


def _check_names(experiment: Experiment) -> None:
    options = experiment.surrogates
    for option, names in (("--surrogate_networks", experiment.attackers), ("--victims", experiment.victim_names)):
        if not names or len(set(names)) != len(names):
            raise InputError(f"the networks are {list(names)}: name at least one, each once ({option})")
    for name in options.networks:
        if name in OURS or not name.replace("-", "_").isidentifier():
            raise InputError(f"networks names {name!r}: take letters, digits and _, and no name that we have (--networks)")
    own = options.network
    if own.build in options.networks and own.described:
        raise InputError(f"network is {own.build}, which --networks.{own.build} describes: give its options there (--network)")


def _option(experiment: Experiment, name: str) -> str:
    """The option that says what the network of a name is."""
    options = experiment.surrogates
    if name in options.networks:
        return f"--networks.{name}"
    if name == options.network.build:
        return "--network"
    return "--surrogate_networks" if name in experiment.attackers else "--victims"
