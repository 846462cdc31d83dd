"""Which table stands where.

A page marks where a table goes, ``<!-- table: NAME -->`` to ``<!-- /table -->``; what lies between is written anew. A test
compares every page with what this would write, so that no figure of a table can differ from its record.
"""

import re
from collections.abc import Callable

from scripts.tables.any_change import any_change, any_change_of, beside_noise
from scripts.tables.border import border, moves
from scripts.tables.certificates import digits_certificate, digits_trigger, mnist_certificate, radii, warm_starts
from scripts.tables.comparisons import adaptive_checks, attacks, by_class, defences, filters_recipes_votes
from scripts.tables.countermeasures import certified_votes, countermeasures
from scripts.tables.measurements import crafting, recipes, sanitized_photographs, tiles
from scripts.tables.photographs import ALL_ARMS, README_ARMS, SCRATCH_ARMS, TRANSFER, frontier, goal, hours, photographs
from scripts.tables.published import published, which_one
from scripts.tables.reading import ROOT, Rows
from scripts.tables.settings import settings

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs" / "results").glob("*.md")))

REGION = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)

SHOWN = ("no_attack", "none", "diffusion")

WITH_JPEG = ("no_attack", "none", "jpeg", "diffusion")

TABLES: dict[str, Callable[[], Rows]] = {
    "photographs": photographs(
        "lite0",
        README_ARMS,
        TRANSFER,
        only="Bullseye",
        known={
            "diffusion_10_4": ("photographs_adaptive_10_4", "photographs_adaptive_16_10_4"),
            "diffusion_25": ("photographs_adaptive", "photographs_adaptive_16"),
        },
        accuracy=("no_attack", "jpeg_25", "diffusion_10_4", "diffusion_25"),
    ),
    "photographs-white-box": photographs("lite0", ALL_ARMS, ("photographs_hundred", *TRANSFER)),
    "photographs-black-box": photographs("lite2", ALL_ARMS, ("photographs_hundred", *TRANSFER)),
    "photographs-backdoors": photographs("lite0", ALL_ARMS, ("photographs_backdoors",)),
    "photographs-backdoors-black-box": photographs("lite2", ALL_ARMS, ("photographs_backdoors",)),
    "photographs-tiny": photographs("lite0", ALL_ARMS, ("photographs_tiny",)),
    "photographs-tiny-black-box": photographs("lite2", ALL_ARMS, ("photographs_tiny",)),
    "photographs-from-scratch": photographs(
        "airbench_slim",
        SCRATCH_ARMS,
        (
            "photographs_scratch_16",
            "photographs_scratch_16_few",
            "photographs_scratch_8",
            "photographs_scratch_8_few",
        ),
        accuracy=tuple(SCRATCH_ARMS),
    ),
    "photographs-border": border("photographs_border"),
    "fashion-mnist-border": border("fashion_mnist_border"),
    "photographs-moves": moves,
    "photographs-goal": goal(
        {"25 poisons": "photographs_8_sigmas", "5 poisons": "photographs_8_five_sigmas"}, {"lite0": "Lite0", "lite2": "Lite2"}
    ),
    "denoising-frontier": frontier({"Lite0": "denoising_lite0.json", "Lite2": "denoising_lite2.json"}),
    "denoising-tiny": frontier({"Lite0": "denoising_tiny_lite0.json", "Lite2": "denoising_tiny_lite2.json"}),
    "denoiser-hours": hours(
        "denoiser_hours.json",
        {"efficientnet_lite0": "denoising_lite0.json", "efficientnet_lite2": "denoising_lite2.json"},
        {"pixels": 2300, "features": 1900},
        {"efficientnet_lite0": "Lite0", "efficientnet_lite2": "Lite2"},
    ),
    "fashion-mnist-defences": defences("fashion_mnist_attackers/oblivious", known="fashion_mnist_attackers/defense"),
    "fashion-mnist-checks": adaptive_checks("fashion_mnist_checks"),
    "photographs-checks": adaptive_checks("photographs_checks"),
    "digits-defences": defences("digits_bullseye_polytope"),
    "countermeasures-photographs": countermeasures(
        {
            "countermeasures_bullseye": "Bullseye Polytope (95 % interval)",
            "countermeasures_bullseye_knowing": "... who knows noise + denoise",
            "countermeasures_poison_frogs": "Poison Frogs",
            "countermeasures_hidden_trigger": "hidden trigger",
        }
    ),
    "countermeasures-votes": certified_votes("countermeasures_bullseye"),
    "countermeasures-which": which_one,
    "countermeasures-settings": settings,
    "countermeasures-published": published,
    "countermeasures-digits": countermeasures({"countermeasures_digits": "attack success (95 % interval)"}),
    "countermeasures-from-scratch": countermeasures({"countermeasures_witches_brew": "attack success (95 % interval)"}),
    "countermeasures-digits-votes": certified_votes("countermeasures_digits"),
    "digits-countermeasures": defences("digits_countermeasures"),
    "digits-workings": filters_recipes_votes("digits_countermeasures"),
    "digits-attacks": attacks("digits_attacks", SHOWN, accuracy=True, known="digits_attacks_adaptive"),
    "sleeper-agent-seed-1": attacks("digits_sleeper_agent_seed_1", SHOWN, accuracy=True),
    "digits-certificate": digits_certificate,
    "digits-trigger": digits_trigger,
    "digits-radii": radii("digits_certificate", 30),
    "warm-starts": warm_starts,
    "cifar10-augmented": attacks("cifar10_transfer", WITH_JPEG, accuracy=True),
    "cifar10-plain": attacks("cifar10_transfer_plain", WITH_JPEG, accuracy=True),
    "cifar10-backdoors": attacks("cifar10_transfer_backdoors", WITH_JPEG, accuracy=True),
    "cifar10-label-consistent": attacks(
        {
            "64/255": "cifar10_label_consistent/label_consistent",
            "overwrites pixels": "cifar10_label_consistent/label_consistent_full",
        },
        SHOWN,
        "trigger",
        accuracy=True,
    ),
    "narcissus-by-class": by_class("cifar10_narcissus"),
    "digits-sapa": attacks({rho: f"digits_sapa_{rho}" for rho in ("0", "0.05", "0.5")}, SHOWN[:2], "sharpness"),
    "cifar10-from-scratch": attacks("cifar10_from_scratch", SHOWN, accuracy=True),
    "cifar10-few-poisons": attacks({"50": "cifar10_from_scratch_50", "150": "cifar10_from_scratch_150"}, SHOWN[:2], "poisons"),
    "tiny-imagenet": attacks(
        {"50 (1 %)": "tiny_imagenet_transfer", "25 (0.5 %)": "tiny_imagenet_transfer_25"}, WITH_JPEG, "poisons", accuracy=True
    ),
    "sanitized-photographs": sanitized_photographs,
    "tiles": tiles,
    "any-change-readme": any_change_of(
        {
            ("cifar10_any_change", "neighbours"): "neighbours",
            ("cifar10_any_change", "partition"): "linear heads, each on a part",
            ("cifar10_any_change_250", "neighbours"): "neighbours and 250 trusted labels",
            ("cifar10_any_change_250", "trusted"): "the trusted labels alone",
        }
    ),
    "any-change-cifar10": any_change("cifar10_any_change"),
    "any-change-cifar10-labels": any_change("cifar10_any_change", labels=True),
    "any-change-cifar10-trusted": any_change("cifar10_any_change_250"),
    "any-change-beside-noise": beside_noise("cifar10_any_change", "cifar10_joint"),
    "any-change-fashion-mnist": any_change("fashion_mnist_any_change"),
    "any-change-fashion-mnist-trusted": any_change("fashion_mnist_any_change_500"),
    "any-change-embedded": any_change("fashion_mnist_7000_any_change"),
    "mnist-certificate": mnist_certificate,
    "mnist-radii": radii("mnist_certificate", 50),
    "crafting": crafting,
    "recipes": recipes,
}


def markdown(rows: Rows) -> str:
    """A table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def filled(text: str) -> str:
    """A page with its tables as the records say."""
    return REGION.sub(lambda region: f"{region[1]}{markdown(TABLES[region[2]]())}{region[3]}", text)
