"""How poisons are made: pure torch, one paper per file."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.attacks":
    raise ImportError("this package is poison_and_defend.attacks: import that")

from poison_and_defend.attacks.base import Attack
from poison_and_defend.attacks.bullseye_polytope import BullseyePolytope
from poison_and_defend.attacks.convex_polytope import ConvexPolytope
from poison_and_defend.attacks.hidden_trigger import HiddenTrigger
from poison_and_defend.attacks.label_consistent import LabelConsistent
from poison_and_defend.attacks.narcissus import Narcissus
from poison_and_defend.attacks.poison_frogs import PoisonFrogs
from poison_and_defend.attacks.sleeper_agent import SleeperAgent
from poison_and_defend.attacks.witches_brew import WitchesBrew

__all__ = [
    "Attack",
    "BullseyePolytope",
    "ConvexPolytope",
    "HiddenTrigger",
    "LabelConsistent",
    "Narcissus",
    "PoisonFrogs",
    "SleeperAgent",
    "WitchesBrew",
]
