"""Which family a diffusers scheduler belongs to, and the numbers of it that matter for a single step."""

from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.reading.files import brief
from poison_and_defend.diffusion.families.parametrizations import (
    FlowMatching,
    Parametrization,
    Preconditioned,
    VarianceExploding,
    VariancePreserving,
)

# All of them compute abar from num_train_timesteps, the betas and rescale_betas_zero_snr. What else they hold, such as Karras
# sigmas, spacing and offsets, says where a sampler stops on its way, of which there is none here.
_PRESERVING = (
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "PNDMScheduler"),
    *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "UniPCMultistepScheduler"),
    *("DEISMultistepScheduler", "SASolverScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
)
_EXPLODING = ("ScoreSdeVeScheduler",)
_PRECONDITIONED = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")

SCHEDULERS = (*_PRESERVING, *_EXPLODING, *_PRECONDITIONED, *_FLOW)
"""Names of the diffusers schedulers whose models can denoise in one step."""


def check_scheduler(name: str | None) -> None:
    """Refuse a scheduler, by the name of its class, that is of no family known here.

    Raises:
        InputError: Naming those that are.
    """
    if name not in SCHEDULERS:
        given = brief(name) if name else "not named (_class_name in scheduler_config.json)"
        raise InputError(
            f"the denoiser's scheduler is {given}, for whose models one step from noise to image is not known here: choose one "
            f"with {', '.join(SCHEDULERS)} (--denoiser)"
        )


def parametrization_of(scheduler: Any) -> Parametrization:
    """What the network of this scheduler estimates.

    Args:
        scheduler: A diffusers scheduler, or of a class derived from one.

    Raises:
        InputError: If its family, or what it predicts, is not known here.
    """
    # A class derived from a known one may be called anything.
    names = [base.__name__ for base in type(scheduler).__mro__]
    name = next((name for name in names if name in SCHEDULERS), names[0])
    check_scheduler(name)
    if name in _EXPLODING:
        return VarianceExploding(*_range(scheduler.config))
    if name in _PRECONDITIONED:
        return _preconditioned(scheduler.config)
    if name in _FLOW:
        return _flow(scheduler)
    return _preserving(name, scheduler)


def _preserving(name: str, scheduler: Any) -> Parametrization:
    config = scheduler.config
    prediction = str(config.prediction_type)
    flow = bool(config.get("use_flow_sigmas", False))
    if flow and prediction == "flow_prediction":
        timesteps = int(config.num_train_timesteps)
        return FlowMatching(1 / timesteps, 1 - 1 / timesteps, timesteps)
    if flow or prediction not in ("epsilon", "sample", "v_prediction"):
        of = " with use_flow_sigmas" if flow else ""
        raise InputError(f"prediction type {brief(prediction)}{of} is not epsilon, sample or v_prediction (--denoiser)")
    if config.get("timestep_type", "discrete") != "discrete":
        raise InputError(
            f"{name} with timestep_type {brief(config.timestep_type)} is not supported, but discrete is (--denoiser)"
        )
    abar = scheduler.alphas_cumprod.double().cpu().clone()
    # Not a number compares as false.
    if not (((abar >= 0) & (abar <= 1)).all() and (abar.diff() <= 0).all() and abar[0] > 0):
        raise InputError(f"{name} has betas that do not turn images into noise little by little (--denoiser)")
    return VariancePreserving(abar, prediction)


def _preconditioned(config: Any) -> Parametrization:
    if config.prediction_type not in ("epsilon", "v_prediction"):
        raise InputError(f"prediction type {brief(config.prediction_type)} is not epsilon or v_prediction (--denoiser)")
    data = float(config.sigma_data)
    if not 0 < data < float("inf"):
        raise InputError(f"the scheduler's sigma_data is {data:g}: it must be above 0 (--denoiser)")
    return Preconditioned(*_range(config), data, float(config.rho), config.prediction_type == "v_prediction")


def _flow(scheduler: Any) -> Parametrization:
    if scheduler.config.get("invert_sigmas", False):
        raise InputError("the scheduler counts its time backwards (invert_sigmas), which is not supported (--denoiser)")
    inner = scheduler.sigmas[(scheduler.sigmas > 0) & (scheduler.sigmas < 1)].double()
    if not len(inner):
        raise InputError("the scheduler has no noise level between none and all (--denoiser)")
    return FlowMatching(inner.min().item(), inner.max().item(), int(scheduler.config.num_train_timesteps))


def _range(config: Any) -> tuple[float, float]:
    least, most = float(config.sigma_min), float(config.sigma_max)
    if not 0 < least <= most < float("inf"):
        raise InputError(f"the scheduler's sigmas go from {least:g} to {most:g}, which is no range above 0 (--denoiser)")
    return least, most
