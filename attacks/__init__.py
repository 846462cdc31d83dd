"""How poisons are made: pure torch, one paper per file."""

from attacks.base import Attack
from attacks.bullseye_polytope import BullseyePolytope
from attacks.witches_brew import WitchesBrew

__all__ = ["Attack", "BullseyePolytope", "WitchesBrew"]
