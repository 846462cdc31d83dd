"""Picture and page of a certificate of any change, from its folder alone; can be made again at any time."""

from pathlib import Path

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.files import make_folder, write_bytes
from poison_and_defend.core.reading.files import guarded, read_text
from poison_and_defend.reports.any_change.figure import certified_curves
from poison_and_defend.reports.any_change.page import render_any_change
from poison_and_defend.reports.any_change.records import FILE, OPTION, WHAT, read_any_change
from poison_and_defend.reports.figures import to_png


def write_any_change_report(folder: Path) -> Path:
    """Write ``figures/certified.png`` and ``report.html`` from ``any_change.json``.

    Raises:
        InputError: If it is missing or damaged.
    """
    result = read_any_change(folder / FILE)
    # What was read may still be what no picture can show.
    with guarded(folder, WHAT, OPTION):
        title = f"{result.dataset}: {'what votes withstand' if result.certified else 'NOT CERTIFIED'}"
        figure = to_png(certified_curves(result))
        config = folder / "config.yaml"
        text = read_text(config, "no configuration", OPTION) if config.exists() else ""
        page = render_any_change(title, result, figure, text)
    make_folder(folder / "figures", OPTION)
    try:
        write_bytes(folder / "figures" / "certified.png", figure)
        write_bytes(folder / "report.html", page.encode(errors="replace"))
    except OSError as error:
        raise InputError(f"cannot write the report of {folder}: {error.strerror} ({OPTION})") from error
    return folder / "report.html"
