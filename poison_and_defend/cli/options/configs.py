"""The package's presets as files."""

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def preset_names(folder: str = "") -> list[str]:
    """Names of the package's presets below a folder of them, such as ``benchmark/poison_frogs`` below ``attack``."""
    root = CONFIGS / folder
    return [path.relative_to(root).with_suffix("").as_posix() for path in sorted(root.rglob("*.yaml"))]
