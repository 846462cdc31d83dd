"""Files of a map: `border.json`, pictures and a page."""

from collections.abc import Sequence
from pathlib import Path

from poison_and_defend.core.files import make_folder, write_bytes, write_json
from poison_and_defend.reports.border.cells import Cell, Conditions, Map, axes_of
from poison_and_defend.reports.border.figures import border_figure, eps_text, frontier_figure, ratio_figure
from poison_and_defend.reports.figures import to_png
from poison_and_defend.reports.labels import ATTACKERS
from poison_and_defend.reports.markup import Cell as Shown
from poison_and_defend.reports.markup import document, escape, picture, table
from poison_and_defend.reports.records import NO_ATTACK

_CAPTIONS = {
    "border": "Attack success over the noise of the defence and the attacker's budget, and accuracy on clean test images; the "
    "dotted line is without an attack.",
    "ratio": "The same over eps / sigma: where lines of different budgets lie on one another, their ratio alone decides.",
    "frontier": "Attack success over accuracy on clean test images, a point for each noise; dotted is without an attack. What "
    "lies low and right holds and costs little.",
}

_DRAWN = {"border": border_figure, "ratio": ratio_figure, "frontier": frontier_figure}


def write_border(folder: Path, cells: Sequence[Cell], conditions: Conditions) -> Path:
    """Write ``border.json``, ``figures/{border,ratio,frontier}_VICTIM.png`` and ``report.html``.

    Raises:
        InputError: If the folder cannot be written to.
    """
    make_folder(folder / "figures", "--output_dir")
    found = Map(conditions, tuple(cells))
    write_json(folder / "border.json", found.to_json())
    shown = []
    for victim in axes_of(cells)["victim"]:
        for name, draw in _DRAWN.items():
            png = to_png(draw(found, victim))
            write_bytes(folder / "figures" / f"{name}_{Path(victim).name}.png", png)
            shown.append(picture(f"{victim}: {_CAPTIONS[name]}", png))
    title = f"{conditions.dataset}: the border of {conditions.defense}"
    body = f"<p>{escape(_told(conditions))}</p>\n" + "\n".join(shown) + "\n" + _table(found)
    write_bytes(folder / "report.html", document(title, body, width=90).encode(errors="replace"))
    return folder / "report.html"


def _told(conditions: Conditions) -> str:
    known = "" if conditions.draws is None else f", {conditions.draws} draws of the noise in each step for those who know of it"
    return (
        f"{conditions.attack}, {conditions.steps} steps{known}; surrogates {', '.join(conditions.surrogates)}; "
        f"{conditions.scenario}; {conditions.defense} with the denoiser {conditions.denoiser}. Every attacker's poisons are "
        "made for the sigma that they are tried at, but for those who ignore it. Measurements against this attack, no "
        "certificate against all."
    )


def _table(found: Map) -> str:
    head = ["attacker", "victim", "poisons", "eps", "sigma", "eps / sigma", "n", "success", "95 % interval", "accuracy"]
    rows = []
    for cell in found.cells:
        ratio = f"{cell.eps / cell.sigma:.2f}" if cell.sigma else ""
        attacker = "no attack" if cell.attacker == NO_ATTACK else ATTACKERS[cell.attacker]
        texts = (attacker, cell.victim, str(cell.num_poisons), eps_text(cell.eps), f"{cell.sigma:g}", ratio, str(cell.n))
        success = f"{cell.successes} of {cell.trials} = {cell.success_rate:.0%}"
        numbers = (success, f"{cell.ci_low:.0%} to {cell.ci_high:.0%}", f"{cell.clean_accuracy:.1%}")
        rows.append([Shown(text) for text in (*texts, *numbers)])
    return table(head, rows)
