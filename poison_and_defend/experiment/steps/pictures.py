"""What the defences make of poisoned images, as one picture."""

import torch

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.defenses.switch import DefenseName, quantize
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.reports.figures import panel, to_png
from poison_and_defend.reports.labels import defense_label


def picture_panel(
    plan: ExperimentPlan, poison_sets: list[PoisonSet], sanitized: dict[DefenseName, Sanitized], columns: int = 10
) -> tuple[str, bytes]:
    """Base, poison, noised and denoised images of the first setup, with what the other defences make of them."""
    poisons = poison_sets[0]
    # The stores hold the poisons of all setups, one after the other.
    columns = min(columns, len(poisons.images))
    rows = torch.from_numpy(poisons.setup.base_indices[:columns])
    stages = [("base", poisons.bases[:columns]), ("poison", poisons.images[:columns])]
    defense = plan.arms.get("diffusion")
    if defense is not None:
        noised = quantize(defense.add_noise(poisons.images[:columns], rows))
        stages += [("noised", noised), ("denoised", sanitized["diffusion"].poisons[:columns])]
    for name, result in sanitized.items():
        if name in ("jpeg", "denoise_only"):
            stages.append((defense_label(name), result.poisons[:columns]))
    figure = panel(stages, f"setup {poisons.setup.index}, sigma {plan.sigma:g}")
    return "base_poison_noised_denoised", to_png(figure)
