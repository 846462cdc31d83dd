"""Pictures and page of a certificate, from its folder alone; can be made again at any time."""

from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_bytes
from poison_and_defend.core.reading.arrays import read_npz
from poison_and_defend.core.reading.files import guarded, read_text
from poison_and_defend.reports.certificate.figures import budget_map, radius_curves, trade_off
from poison_and_defend.reports.certificate.page import render_certificate
from poison_and_defend.reports.certificate.records import OPTION, WHAT, read_certificate
from poison_and_defend.reports.figures import to_png


def write_certificate_report(folder: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` from ``certificate.json`` and the arrays beside it.

    Raises:
        InputError: If they are missing or damaged.
    """
    result = read_certificate(folder / "certificate.json")
    # What was read may still be what no picture can show.
    with guarded(folder, WHAT, OPTION):
        pairs = [(record, _arrays(folder / f"{record.name}.npz")) for record in result.settings]
        title = f"{result.dataset}: {'what the vote withstands' if result.certified else 'NOT CERTIFIED'}"
        figures = {
            record.name: (f"Certified accuracy, {record.label}.", to_png(budget_map(record, own, result)))
            for record, own in pairs
        }
        figures["radius"] = ("Certified accuracy against the whole set's radius.", to_png(radius_curves(pairs, title)))
        if result.forecasts:
            figures["trade_off"] = ("What pilots foretell.", to_png(trade_off(result.forecasts, result.goal)))
        config = folder / "config.yaml"
        text = read_text(config, "no configuration", OPTION) if config.exists() else ""
        page = render_certificate(title, result, figures, text)
    make_folder(folder / "figures", OPTION)
    try:
        for name, (_, png) in figures.items():
            write_bytes(folder / "figures" / f"{name}.png", png)
        write_bytes(folder / "report.html", page.encode(errors="replace"))
    except OSError as error:
        raise InputError(f"cannot write the report of {folder}: {error.strerror} ({OPTION})") from error
    return folder / "report.html"


def _arrays(path: Path) -> dict[str, Any]:
    shapes = {**dict.fromkeys(("radii", "paper_radii", "map_k", "map_radius"), (None,)), "map_certified": (None, None)}
    return read_npz(path, "no .npz of a certificate", OPTION, names=shapes, shapes=shapes)
