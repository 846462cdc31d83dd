"""Which budgets a noise holds against by a map, in words."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from poison_and_defend.core.reading.files import read_json
from poison_and_defend.reports.border.cells import MARGIN, Map, axes_of
from poison_and_defend.reports.border.figures import eps_text
from poison_and_defend.reports.labels import ATTACKERS

FILE = "border.json"
"""Name of a map, in its own folder and beside the weights of the denoiser that it is of."""

UNKNOWN = "not measured"


def read_map(path: Path, option: str) -> Map:
    """A map that `border` made.

    Raises:
        InputError: If it is none.
    """
    return Map.from_json(read_json(path, "no map of attack success", option), path, option)


def holds_text(found: Map, attacker: str, sigma: float) -> str:
    """The largest budget for each number of poisons, such as ``4/255 (25), 32/255 or more (5)``, of the first victim.

    A sigma that was not measured is taken for the largest measured one below it: more noise holds against no less.
    """
    axes = axes_of(found.cells)
    victim = axes["victim"][0]
    texts = {count: _largest(found, attacker, sigma, count, victim, axes["eps"]) for count in axes["num_poisons"]}
    if set(texts.values()) == {UNKNOWN}:
        return UNKNOWN
    return ", ".join(f"{text} ({count})" for count, text in texts.items())


def _largest(found: Map, attacker: str, sigma: float, count: int, victim: str, budgets: list[float]) -> str:
    cells = found.of(attacker, count, victim)
    complete = [s for s in axes_of(found.cells)["sigma"] if 0 < s <= sigma and all((s, eps) in cells for eps in budgets)]
    if not complete:
        return UNKNOWN
    best = found.holds_up_to(attacker, max(complete), count, victim)
    if best is None:
        return f"below {eps_text(budgets[0])}"
    return eps_text(best) + (" or more" if best == budgets[-1] else "")


def holds_against(found: Map, sigma: float) -> dict[str, str]:
    """:func:`holds_text` of every attacker of a map."""
    return {name: holds_text(found, name, sigma) for name in axes_of(found.cells)["attacker"]}


def print_holds(found: Map, sigmas: Sequence[float]) -> None:
    """Print up to which budget each noise holds against each attacker, and what that was measured on."""
    table = Table(title="budget that it holds against, of an attacker who ...", title_justify="left")
    table.add_column("sigma", justify="right")
    for name in axes_of(found.cells)["attacker"]:
        table.add_column(f"... {ATTACKERS[name]}")
    for sigma in sigmas:
        table.add_row(f"{sigma:g}", *holds_against(found, sigma).values())
    Console().print(table)
    print(holds_conditions(found))


def holds_conditions(found: Map) -> str:
    """What a map was measured under, in one sentence, for whoever has other images."""
    own, axes = found.conditions, axes_of(found.cells)
    setups = min(cell.n for cell in found.cells)
    counts = " and ".join(map(str, axes["num_poisons"]))
    return (
        f"budgets by the map of {own.defense} with {own.denoiser}: {own.attack.replace('_', ' ')}, {own.steps} steps, {setups} "
        f"setups of {own.dataset}, {counts} poisons (in brackets), {own.scenario} on {axes['victim'][0]}; it holds where "
        f"success is at most {MARGIN:.0%} above chance; other images and attacks may differ, and none of this is a certificate"
    )
