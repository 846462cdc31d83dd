"""Pictures and pages of experiments, from their folders alone; can be made again at any time."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from poison_and_defend.attacks.threat.poison_set import PoisonSet
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_bytes, write_json
from poison_and_defend.core.reading.arrays import read_npz
from poison_and_defend.core.reading.files import guarded, read_bytes, read_json, read_text
from poison_and_defend.poisons.files import load_poisons
from poison_and_defend.reports.experiment.feature_space import Arm, feature_space, relative_distance
from poison_and_defend.reports.experiment.overview import RunSummary, overview, render_overview
from poison_and_defend.reports.experiment.page import render_page
from poison_and_defend.reports.figures import comparison, labelled_sheet, to_png
from poison_and_defend.reports.labels import attack_label
from poison_and_defend.reports.records import Result, read_results
from poison_and_defend.reports.summary import summarize

_WHAT, _OPTION = "no experiment that can be shown", "--run"
_MOST_PICTURE = 1 << 26
_SHEETS = 3
_GROUPS = ("base_class", "target_class", "poisons", "targets")

Picture = tuple[str, bytes]
"""Caption and PNG."""


def write_report(folder: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html``.

    Reads ``results.jsonl`` and, where they exist, ``poisons/``, ``figures/tested.npz`` (``setup_000`` and so on: the targets
    or triggered test images ``(m, C, H, W)`` uint8) and ``figures/features_ARM.npz`` (``base_class``, ``target_class``,
    ``poisons``, ``targets``: ``(n, F)`` float32, and ``shared``: whether all arms have one extractor).

    Raises:
        InputError: If the folder holds no results.
    """
    results = _results(folder, _OPTION)
    figures = folder / "figures"
    make_folder(figures, _OPTION)
    # What was read may still be what no picture can show.
    with guarded(folder, _WHAT, _OPTION):
        summary = summarize(results)
        title = f"{results[0].dataset}: {attack_label(results[0].attack, results[0].variant)}"
        chart = _kept(figures / "comparison.png", to_png(comparison(summary, f"{title}, {summary[0].n} setups")))
        shown = [("Attack success and test accuracy under each defence.", chart)]
        panels = figures / "base_poison_noised_denoised.png"
        if panels.exists():
            shown.append(("What the defence does to poisoned images.", read_bytes(panels, _OPTION, _MOST_PICTURE)))
        shown += _feature_picture(figures, {row.defense: row.label for row in summary}, results[0].goal)
        shown += _sheets(folder)
        config, made = folder / "config.yaml", folder / "provenance.json"
        page = render_page(
            title,
            summary,
            results,
            shown,
            read_text(config, "no configuration", _OPTION) if config.exists() else "",
            read_json(made, "no note of what made the results", _OPTION) if made.exists() else {},
        )
    _kept(folder / "report.html", page.encode(errors="replace"))
    return folder / "report.html"


def write_overview(folder: Path, runs: list[Path]) -> Path:
    """Write ``summary.json``, ``figures/overview.png`` and ``report.html`` of several experiments together.

    Args:
        folder: Made if it does not exist.
        runs: Folders of experiments, in the order that they are to be shown in.

    Raises:
        InputError: If there is no run, one holds no results, or the folder cannot be written to.
    """
    if not runs:
        raise InputError("an overview needs at least 1 run (--runs)")
    rows = [row for run in runs for row in _overview_rows(run, folder)]
    make_folder(folder / "figures", "--output_dir")
    write_json(folder / "summary.json", [row.to_json() for row in rows])
    with guarded(", ".join(map(str, runs))[:200], _WHAT, "--runs"):
        png = to_png(overview(rows))
    chart = _kept(folder / "figures" / "overview.png", png)
    title = ", ".join(dict.fromkeys(row.dataset for row in rows)) + f": {len(runs)} experiments"
    write_bytes(folder / "report.html", render_overview(title, rows, chart).encode(errors="replace"))
    return folder / "report.html"


def _overview_rows(run: Path, folder: Path) -> list[RunSummary]:
    results = _results(run, "--runs")
    page = run / "report.html"
    # Relative, so that the folders can be moved together; quoted, since a name may hold what an address may not.
    link = quote(Path(os.path.relpath(page, folder)).as_posix()) if page.exists() else ""
    with guarded(run, _WHAT, "--runs"):
        summaries = summarize(results)
    return [RunSummary(run=run.name, dataset=results[0].dataset, report=link, summary=one) for one in summaries]


def _results(folder: Path, option: str) -> list[Result]:
    results = read_results(folder / "results.jsonl", option)
    if not results:
        raise InputError(f"{folder} holds no results.jsonl: run poison-and-defend first ({option})")
    return results


def _kept(path: Path, content: bytes) -> bytes:
    try:
        write_bytes(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror} ({_OPTION})") from error
    return content


def _sheets(folder: Path) -> list[Picture]:
    tested = folder / "figures" / "tested.npz"
    arrays = read_npz(tested, "no .npz of test images", _OPTION) if tested.exists() else {}
    shown = []
    for path in sorted((folder / "poisons").glob("setup_*.safetensors"))[:_SHEETS]:
        poisons = load_poisons(path)
        images: Tensor | None = torch.from_numpy(arrays[path.stem]) if path.stem in arrays else None
        png = _kept(folder / "figures" / f"{path.stem}.png", to_png(labelled_sheet(poisons, images)))
        shown.append((_sheet_caption(poisons), png))
    return shown


def _sheet_caption(poisons: PoisonSet) -> str:
    setup = poisons.setup
    last = {
        "targets": f"the test image of class {setup.target_label} that is",
        "source": f"test images of class {setup.target_label} with the trigger that are",
        "others": "test images of other classes with the trigger that are",
    }[poisons.goal]
    return (
        f"Setup {setup.index}: bases of class {setup.adversarial_label}, the poisons made of them, ten times the difference "
        f"around mid-grey, and {last} to be read as class {setup.adversarial_label}."
    )


def _feature_picture(figures: Path, labels: dict[str, str], goal: str) -> list[Picture]:
    """Undefended and defended features of the same poisons side by side, if the experiment kept any."""
    order = [*dict.fromkeys(["none", "diffusion", *labels])]
    found = {name: _read_features(figures / f"features_{name}.npz") for name in order if _has_features(figures, name)}
    if not found:
        return []
    arms: list[Arm] = [(labels.get(name, name), {key: arrays[key] for key in _GROUPS}) for name, arrays in found.items()]
    shared = all(bool(arrays["shared"]) for arrays in found.values())
    tested = "targets" if goal == "targets" else "triggered images"
    figure = feature_space(arms, "poisons of one setup in feature space", shared, tested)
    return [(_feature_caption(arms, shared, tested), _kept(figures / "feature_space.png", to_png(figure)))]


def _has_features(figures: Path, name: str) -> bool:
    # A name from a file must not lead elsewhere.
    return "/" not in name and (figures / f"features_{name}.npz").exists()


def _feature_caption(arms: list[Arm], shared: bool, tested: str) -> str:
    """Says what distance the picture shows, and how to read it."""
    reference = arms[0][1] if shared else None
    numbers = ", ".join(f"{relative_distance(arrays, reference):.2f} ({label})" for label, arrays in arms)
    whose = (
        "All panels show one feature extractor and the same axes."
        if shared
        else "Every panel shows its own victim's features and its own axes, so that distances compare in units of the classes'."
    )
    return (
        f"Features of one setup. Poisons carry the label of the base class: where they lie among the {tested}, a classifier "
        f"that fits them reads that region as the base class; where they lie among the base class, fitting them asks for no "
        f"such thing. {tested.capitalize()} left of the middle are nearer to the base class along the line between the class "
        f"means. Distance from the poisons' mean to that of the {tested}, in all dimensions, as a multiple of the distance "
        f"between the class means: {numbers}. {whose} Two axes show only part of the distances."
    )


def _read_features(path: Path) -> dict[str, Any]:
    what, shapes = "no .npz of features", {**dict.fromkeys(_GROUPS, (None, None)), "shared": ()}
    arrays = read_npz(path, what, _OPTION, names=shapes, shapes=shapes)
    with guarded(path, what, _OPTION):
        for name in _GROUPS:
            if 0 in arrays[name].shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"its {name} are none or not finite")
    return arrays
