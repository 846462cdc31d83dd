"""Maps of success over noise, budget and poisons."""

from collections.abc import Callable

from poison_and_defend.reports.border.cells import Map, axes_of
from poison_and_defend.reports.border.figures import eps_text
from poison_and_defend.reports.labels import ATTACKERS
from poison_and_defend.reports.records import NO_ATTACK
from scripts.tables.reading import RECORDS, Rows, percent, read


def border(record: str) -> Callable[[], Rows]:
    """Targets misread, a row for each attacker, number of poisons and budget, a column for each noise; accuracy below."""

    def table() -> Rows:
        found = Map.from_json(read(f"{record}/border.json"), RECORDS / record / "border.json", "record")
        axes = axes_of(found.cells)
        (victim,), sigmas = axes["victim"], axes["sigma"]
        n = max(cell.n for cell in found.cells)
        rows = [["attacker", "poisons", "budget", "undefended", *(f"sigma {sigma:g}" for sigma in sigmas[1:])]]
        for attacker in axes["attacker"]:
            for count in axes["num_poisons"]:
                own = found.of(attacker, count, victim)
                for eps in axes["eps"]:
                    cells = [own.get((sigma, eps)) for sigma in sigmas]
                    shown = [f"{cell.successes} of {cell.trials}" if cell else "" for cell in cells]
                    rows.append([ATTACKERS[attacker], str(count), eps_text(eps), *shown])
        means = []
        for sigma in sigmas:
            own_sigma = [cell.clean_accuracy for cell in found.cells if cell.sigma == sigma and cell.attacker != NO_ATTACK]
            means.append(percent(sum(own_sigma) / len(own_sigma)))
        control = [cell for cell in found.cells if cell.attacker == NO_ATTACK]
        right = percent(sum(cell.clean_accuracy for cell in control) / len(control))
        chance = ", ".join(f"{round(n * found.chance(count, victim))} of {n} with {count}" for count in axes["num_poisons"])
        rows.append([f"accuracy ({right} without an attack, where {chance} are misread)", "", "", *means])
        return rows

    return table
