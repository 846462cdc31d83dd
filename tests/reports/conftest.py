from typing import Any

import pytest

from poison_and_defend.reports.records import Result

DEFENSES = ["none", "noise_only", "denoise_only", "jpeg", "diffusion"]


def build_result(setup: int = 0, defense: str = "none", success: bool = True, **rest: Any) -> Result:
    own = {"dataset": "digits", "scenario": "transfer", "attack": "bullseye_polytope", "setup": setup, "defense": defense}
    own |= {"target_index": 40 + setup, "target_label": 3, "adversarial_label": 7, "num_poisons": 5, "norm": "linf"}
    own |= {"eps": 8 / 255, "sigma": 0.25 if defense in ("noise_only", "diffusion") else 0.0, "victim": "convnet"}
    own |= {"knowledge": "white box", "goal": "targets", "success": success, "predicted": 7 if success else 3}
    own |= {"successes": int(success), "trials": 1, "clean_accuracy": 0.9, "source_accuracy": 0.8, "objective": 0.25}
    own |= {"surrogates": ["convnet"], "seed": 2**62 + setup, "seconds": 1.5, "revision": "0123456789ab"}
    return Result(**own | rest)


def build_backdoor(setup: int = 0, defense: str = "none", successes: int = 8, trials: int = 10, **rest: Any) -> Result:
    counts = {"successes": successes, "trials": trials, "goal": "source", "attack": "hidden_trigger"}
    return build_result(setup, defense, successes * 2 >= trials, **counts | rest)


@pytest.fixture(scope="session")
def make_result():
    return build_result


@pytest.fixture(scope="session")
def make_backdoor():
    return build_backdoor


@pytest.fixture(scope="session")
def results() -> list[Result]:
    """Four setups; defence number d stops the attack in d of them."""
    return [build_result(s, name, s >= d, clean_accuracy=0.9 - 0.01 * s) for d, name in enumerate(DEFENSES) for s in range(4)]
