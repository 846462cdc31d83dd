from typing import Any

import pytest

DEFENSES = ["none", "noise_only", "denoise_only", "jpeg", "diffusion"]


def build_record(setup: int = 0, defense: str = "none", success: bool = True, **rest: Any) -> dict[str, Any]:
    record = {"setup": setup, "attack": "bullseye_polytope", "defense": defense, "success": success, "clean_accuracy": 0.9}
    record |= {"sigma": 0.25 if defense in ("noise_only", "diffusion") else 0.0, "num_poisons": 5, "norm": "linf"}
    record |= {"eps": 8 / 255, "target_index": 40 + setup, "target_label": 3, "adversarial_label": 7}
    record |= {"victim": "convnet", "knowledge": "white box", "goal": "targets", "source_accuracy": 0.8}
    return record | {"predicted": 7 if success else 3, "successes": int(success), "trials": 1} | rest


def build_backdoor(setup: int = 0, defense: str = "none", successes: int = 8, trials: int = 10, **rest: Any) -> dict[str, Any]:
    counts = {"successes": successes, "trials": trials, "goal": "source", "attack": "hidden_trigger"}
    return build_record(setup, defense, successes * 2 >= trials, **counts | rest)


@pytest.fixture(scope="session")
def make_record():
    return build_record


@pytest.fixture(scope="session")
def make_backdoor():
    return build_backdoor


@pytest.fixture(scope="session")
def records() -> list[dict[str, Any]]:
    """Four setups; defence number d stops the attack in d of them."""
    return [build_record(s, name, s >= d, clean_accuracy=0.9 - 0.01 * s) for d, name in enumerate(DEFENSES) for s in range(4)]
