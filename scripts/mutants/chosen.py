"""Which files faults are planted in, and which of all faults."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from scripts.mutants.mutant import Mutant
from scripts.mutants.operators import mutants_of

ROOT = Path(__file__).resolve().parents[2]

GROUPS = {
    "attacks": ("attacks/**/*.py",),
    "defences": ("defenses/**/*.py",),
    "certification": ("poison_and_defend/certification/*.py",),
    "evaluation": (
        "callbacks/ensemble_scores.py",
        "poison_and_defend/experiment/steps/judge.py",
        "poison_and_defend/experiment/steps/training_sets.py",
        "poison_and_defend/experiment/steps/victim_networks.py",
        "poison_and_defend/experiment/steps/victims.py",
        "poison_and_defend/experiment/task/results.py",
        "poison_and_defend/reports/intervals.py",
        "poison_and_defend/reports/summary.py",
    ),
}
"""What every published figure rests on."""


def files_of(patterns: Sequence[str], root: Path = ROOT) -> list[str]:
    """Paths of sources, relative to the repository, without those that hold a docstring and nothing else."""
    found = {path for pattern in patterns for path in root.glob(pattern) if path.name != "__init__.py"}
    return sorted(str(path.relative_to(root)) for path in found)


def all_mutants(files: Sequence[str], root: Path = ROOT) -> list[Mutant]:
    """Every fault that can be planted in the files."""
    return [mutant for file in files for mutant in mutants_of(file, (root / file).read_text())]


def drawn(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of the mutants; each is in or out by its own hash, so that a change elsewhere draws no others.

    Args:
        mutants: To draw from.
        count: How many; 0 for all.
        seed: Another one draws others.
    """
    ordered = sorted(mutants, key=lambda mutant: hashlib.sha256(f"{seed}:{mutant.key}".encode()).digest())
    return ordered[: count or None]


def group_of(file: str, root: Path = ROOT) -> str:
    """What a file is counted with."""
    return next((name for name, patterns in GROUPS.items() if file in files_of(patterns, root)), "other")
