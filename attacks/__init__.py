"""How poisons are made: pure torch, one paper per file."""

from attacks.base import Attack
from attacks.bullseye_polytope import BullseyePolytope
from attacks.convex_polytope import ConvexPolytope
from attacks.hidden_trigger import HiddenTrigger
from attacks.label_consistent import LabelConsistent
from attacks.poison_frogs import PoisonFrogs
from attacks.sleeper_agent import SleeperAgent
from attacks.witches_brew import WitchesBrew

__all__ = [
    "Attack",
    "BullseyePolytope",
    "ConvexPolytope",
    "HiddenTrigger",
    "LabelConsistent",
    "PoisonFrogs",
    "SleeperAgent",
    "WitchesBrew",
]
