"""Pictures and page of a certificate, from its folder alone; can be made again at any time."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from callbacks.wandb_logging import log_images
from errors import InputError
from files import write_bytes
from reports.certificate_figures import budget_map, radius_curves, trade_off
from reports.certificate_page import render_certificate
from reports.certificate_text import setting_label
from reports.figures import to_png


def write_certificate_report(folder: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` from ``certificate.json`` and the arrays beside it.

    Raises:
        InputError: If they are missing or damaged.
    """
    try:
        result = json.loads((folder / "certificate.json").read_text())
        arrays = [dict(np.load(folder / f"{_name(record)}.npz", allow_pickle=False)) for record in result["settings"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} holds no certificate that can be read: {error} (--run)") from error
    title = f"{result['dataset']}: {'what the vote withstands' if result['certified'] else 'NOT CERTIFIED'}"
    pairs = list(zip(result["settings"], arrays, strict=True))
    figures = {
        _name(record): (f"Certified accuracy, {setting_label(record)}.", to_png(budget_map(record, own, result)))
        for record, own in pairs
    }
    figures["radius"] = ("Certified accuracy against the whole set's radius.", to_png(radius_curves(pairs, title)))
    if result["forecasts"]:
        figures["trade_off"] = ("What pilots foretell.", to_png(trade_off(result["forecasts"], result["goal"])))
    (folder / "figures").mkdir(exist_ok=True)
    for name, (_, png) in figures.items():
        write_bytes(folder / "figures" / f"{name}.png", png)
    config = folder / "config.yaml"
    page = render_certificate(title, result, figures, config.read_text() if config.exists() else "")
    write_bytes(folder / "report.html", page.encode())
    return folder / "report.html"


def _name(record: dict[str, Any]) -> str:
    drawn = f"m_{record['m']}" if "m" in record else f"q_{record['q']:g}"
    return f"sigma_{record['sigma']:g}_{drawn}"


def log_certificate(logger: WandbLogger | None, folder: Path, result: dict[str, Any]) -> None:
    """Tables and pictures to W&B, if there is a logger."""
    if logger is None:
        return
    rows = [
        [setting_label(r), k, eps, r["table"][i][j], r["table_all_images"][i][j]]
        for r in result["settings"]
        for i, k in enumerate(result["k"])
        for j, eps in enumerate(result["eps"])
    ]
    logger.log_table("certified_accuracy", ["setting", "k", "eps", "each image", "all images"], rows)
    for path in sorted((folder / "figures").glob("*.png")):
        log_images(logger, f"certificate/{path.stem}", [Image.open(io.BytesIO(path.read_bytes()))], [path.stem])
    logger.log_metrics({f"accuracy/{setting_label(r)}": r["accuracy"] for r in result["settings"]})
