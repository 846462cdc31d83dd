"""Pictures and the page of an experiment, from its folder alone; can be made again at any time."""

import json
from pathlib import Path

import torch

from attacks.poison_set import PoisonSet
from datamodules.poison_files import load_poisons
from defenses.switch import DefenseName, quantize
from errors import InputError
from files import write_bytes
from reports.figures import comparison, contact_sheet, panel, to_png
from reports.page import render_page
from reports.records import read_results, summarize
from stages.experiment import Experiment
from stages.sanitize import Sanitized

_SHEETS = 3


def write_report(folder: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html``.

    Raises:
        InputError: If the folder holds no results.
    """
    records = read_results(folder / "results.jsonl")
    if not records:
        raise InputError(f"{folder} holds no results.jsonl: run poison-and-defend first (--run)")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    summary = summarize(records)
    title = f"{records[0]['dataset']}: {records[0]['attack'].replace('_', ' ')}"
    chart = to_png(comparison(summary, f"{title}, {summary[0]['n']} setups"))
    write_bytes(figures / "comparison.png", chart)
    shown = [("Attack success and test accuracy under each defence.", chart)]
    panels = figures / "base_poison_noised_denoised.png"
    if panels.exists():
        shown.append(("What the defence does to poisoned images.", panels.read_bytes()))
    for path in sorted((folder / "poisons").glob("setup_*.safetensors"))[:_SHEETS]:
        poisons = load_poisons(path)
        sheet = figures / f"{path.stem}.png"
        contact_sheet(poisons).save(sheet)
        setup = poisons.setup
        caption = (
            f"Setup {setup.index}: base, poison, ten times the difference; a test image of class {setup.target_label} "
            f"is to be read as {setup.adversarial_label}."
        )
        shown.append((caption, sheet.read_bytes()))
    config, made = folder / "config.yaml", folder / "provenance.json"
    page = render_page(
        title,
        summary,
        records,
        shown,
        config.read_text() if config.exists() else "",
        json.loads(made.read_text()) if made.exists() else {},
    )
    write_bytes(folder / "report.html", page.encode())
    return folder / "report.html"


def picture_panel(
    experiment: Experiment, poison_sets: list[PoisonSet], sanitized: dict[DefenseName, Sanitized], columns: int = 10
) -> tuple[str, bytes]:
    """Base, poison, noised and denoised images of the first setup, with what the other defences make of them."""
    poisons = poison_sets[0]
    rows = torch.from_numpy(poisons.setup.base_indices[:columns])
    stages = [("base", poisons.bases[:columns]), ("poison", poisons.images[:columns])]
    defense = experiment.built_defenses.get("diffusion")
    if defense is not None:
        noised = quantize(defense.add_noise(poisons.images[:columns], rows))
        stages += [("noised", noised), ("denoised", sanitized["diffusion"].poisons[:columns])]
    for name, result in sanitized.items():
        if name in ("jpeg", "denoise_only"):
            stages.append((name.replace("_", " "), result.poisons[:columns]))
    figure = panel(stages, f"setup {poisons.setup.index}, sigma {experiment.sigma:g}")
    return "base_poison_noised_denoised", to_png(figure)
