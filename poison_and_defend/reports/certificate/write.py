"""Pictures and page of a certificate, from its folder alone; can be made again at any time."""

from pathlib import Path
from typing import Any

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_bytes
from poison_and_defend.core.reading.arrays import read_npz
from poison_and_defend.core.reading.files import check_fields, guarded, read_json, read_text
from poison_and_defend.reports.certificate.figures import budget_map, radius_curves, trade_off
from poison_and_defend.reports.certificate.page import render_certificate
from poison_and_defend.reports.certificate.text import setting_label
from poison_and_defend.reports.figures import to_png

_WHAT, _OPTION = "no certificate that can be shown", "--run"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "norm"), str),
    **dict.fromkeys(("settings", "forecasts", "k", "eps", "best", "ingredients", "void", "image_shape"), list),
    **dict.fromkeys(("goal", "provenance"), dict),
    "certified": bool,
    "alpha": float,
}


def write_certificate_report(folder: Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` from ``certificate.json`` and the arrays beside it.

    Raises:
        InputError: If they are missing or damaged.
    """
    result = _read(folder / "certificate.json")
    # What was read may still be what no picture can show.
    with guarded(folder, _WHAT, _OPTION):
        pairs = [(record, _arrays(folder / f"{_name(record)}.npz")) for record in result["settings"]]
        title = f"{result['dataset']}: {'what the vote withstands' if result['certified'] else 'NOT CERTIFIED'}"
        figures = {
            _name(record): (f"Certified accuracy, {setting_label(record)}.", to_png(budget_map(record, own, result)))
            for record, own in pairs
        }
        figures["radius"] = ("Certified accuracy against the whole set's radius.", to_png(radius_curves(pairs, title)))
        if result["forecasts"]:
            figures["trade_off"] = ("What pilots foretell.", to_png(trade_off(result["forecasts"], result["goal"])))
        config = folder / "config.yaml"
        text = read_text(config, "no configuration", _OPTION) if config.exists() else ""
        page = render_certificate(title, result, figures, text)
    make_folder(folder / "figures", _OPTION)
    try:
        for name, (_, png) in figures.items():
            write_bytes(folder / "figures" / f"{name}.png", png)
        write_bytes(folder / "report.html", page.encode(errors="replace"))
    except OSError as error:
        raise InputError(f"cannot write the report of {folder}: {error.strerror} ({_OPTION})") from error
    return folder / "report.html"


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = check_fields(read_json(path, _WHAT, _OPTION), _FIELDS, path, _WHAT, _OPTION)
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no {path.name} (--run)") from error
    for record in result["settings"]:
        drawn = {"m": int} if isinstance(record, dict) and "m" in record else {"q": float}
        check_fields(record, {"sigma": float, "n": int, **drawn}, path, _WHAT, _OPTION)
    return result


def _arrays(path: Path) -> dict[str, Any]:
    shapes = {**dict.fromkeys(("radii", "paper_radii", "map_k", "map_radius"), (None,)), "map_certified": (None, None)}
    return read_npz(path, "no .npz of a certificate", _OPTION, names=shapes, shapes=shapes)


def _name(record: dict[str, Any]) -> str:
    drawn = f"m_{record['m']}" if "m" in record else f"q_{record['q']:g}"
    return f"sigma_{record['sigma']:g}_{drawn}"
