"""What the seven attacks usually spend, for marking on a map of what is certified."""

from typing import NamedTuple


class UsualBudget(NamedTuple):
    """A budget that papers report an attack with.

    Attributes:
        attacks: Short names.
        share: Poisons as a share of the training set.
        eps: linf, in [0, 1] pixel units.
        source: Where it is from.
    """

    attacks: str
    share: float
    eps: float
    source: str


USUAL_BUDGETS = (
    UsualBudget("PF, CP, BP, HT, LC, WB", 0.01, 8 / 255, "public benchmark (Schwarzschild et al., 2021), 1 % at 8/255"),
    UsualBudget("WB, SA", 0.01, 16 / 255, "Geiping et al., 2021; Souri et al., 2022: 1 % at 16/255"),
    UsualBudget("CP, BP", 0.01, 25.5 / 255, "Zhu et al., 2019; Aghakhani et al., 2021: 5 of 500 images at 0.1"),
)

LEGEND = (
    "PF Poison Frogs, CP Convex Polytope, BP Bullseye Polytope, HT hidden trigger, LC label-consistent, WB Witches' Brew, SA "
    "Sleeper Agent. Backdoors (HT, LC, SA) also put a trigger on the test image, which no certificate here covers."
)
