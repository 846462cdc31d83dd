"""What the rewriters make of poisoned images, as one picture."""

import torch

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.defenses.rewriters.base import quantize
from poison_and_defend.defenses.rewriters.diffusion import Diffusion
from poison_and_defend.experiment.steps.protect import Sanitized
from poison_and_defend.experiment.task.plan import ExperimentPlan
from poison_and_defend.reports.figures import panel, to_png


def picture_panel(
    plan: ExperimentPlan, poison_sets: list[PoisonSet], sanitized: dict[str, Sanitized], columns: int = 10
) -> tuple[str, bytes] | None:
    """Base, poison, noised and denoised images of the first setup, with what other rewriters make of them; None without any.

    Arms that go on with the same rewriters show the same, and noise alone is shown as the first half of noise and denoising.
    """
    poisons = poison_sets[0]
    # The stores hold the poisons of all setups, one after the other.
    columns = min(columns, len(poisons.images))
    rows = torch.from_numpy(poisons.setup.base_indices[:columns])
    stages = [("base", poisons.bases[:columns]), ("poison", poisons.images[:columns])]
    shown = [arm for arm in plan.arms.values() if arm.attacked and arm.rewriters and len(arm.steps) == len(arm.rewriters)]
    if not shown:
        return None
    diffusion = next((arm for arm in shown if isinstance(arm.rewriters[0], Diffusion) and len(arm.steps) == 1), None)
    if diffusion is not None:
        first = diffusion.rewriters[0]
        assert isinstance(first, Diffusion)
        images = poisons.images[:columns]
        if images.shape[2:] == first.denoiser.size:  # type: ignore[union-attr]
            stages.append(("noised", quantize(first.add_noise(images, rows))))
        stages.append(("denoised", sanitized[diffusion.name].poisons[:columns]))
    for arm in shown:
        if arm is not diffusion and not (diffusion is not None and arm.name == "noise_only"):
            stages.append((arm.label, sanitized[arm.name].poisons[:columns]))
    noise = f", sigma {diffusion.sigma:g}" if diffusion is not None else ""
    return "base_poison_noised_denoised", to_png(panel(stages, f"setup {poisons.setup.index}{noise}"))
