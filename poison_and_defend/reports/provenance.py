"""What a result was made with: the project's revision, the packages' versions, the hardware."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def revision() -> str:
    """The project's git revision, marked if the tree has changes, or its version where there is no repository."""
    root = Path(__file__).resolve().parents[2]
    # An installed package may lie inside another project's repository.
    if not (root / ".git").exists():
        return package_versions(("poison-and-defend",))["poison-and-defend"]
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=root, capture_output=True, text=True, check=True
        )
        return name.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return package_versions(("poison-and-defend",))["poison-and-defend"]


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions, ``unknown`` for what is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def provenance(device: str, world: int) -> dict[str, Any]:
    """What a result was made with."""
    import torch

    hardware = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {
        "revision": revision(),
        "hardware": f"{world} x {hardware}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": package_versions(("torch", "torchvision", "lightning", "torchmetrics", "diffusers")),
    }
