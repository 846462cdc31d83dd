"""Maps of success over noise, budget and poisons."""

from collections.abc import Callable

from poison_and_defend.reports.border.cells import Map, axes_of
from poison_and_defend.reports.border.figures import eps_text
from poison_and_defend.reports.labels import ATTACKERS
from poison_and_defend.reports.records import NO_ATTACK
from scripts.tables.reading import RECORDS, Rows, percent, read, success


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


TRIED = {
    "nothing": "photographs_border",
    "attacker: a denoiser of his own (`cifar10`), sigma unknown (.1 to .4)": "photographs_moves/surrogate_defense",
    "attacker: four draws of the noise in each step": "photographs_moves/four_draws_a_step",
    "defence: four draws of every image": "photographs_moves/four_draws",
    "defence: three steps of the denoiser": "photographs_moves/three_steps",
}
"""Maps with one cell of who knows the defence at 8/255, 25 poisons and sigma .25, by what is changed."""

UNKNOWN = {
    "diffusion": "nothing, the same poisons as below",
    "other": "defence: another denoiser (`cifar10`)",
    "diffusion+partition": "defence: and a vote of ten parts",
    "diffusion+spectral_signatures": "defence: and spectral signatures, told the number of poisons",
}
"""Arms that 40 setups' poisons were tried on, made through the first."""


def moves() -> Rows:
    """What was tried against who knows the defence: targets misread, and what each costs."""
    rows = [["changed", "misread (95 % interval)", "accuracy"]]
    for name, record in TRIED.items():
        (cell,) = [
            cell
            for cell in read(f"{record}/border.json")["cells"]
            if (round(255 * cell["eps"]), cell["num_poisons"], cell["sigma"]) == (8, 25, 0.25)
            and cell["attacker"] in ("defense", "surrogate_defense")
        ]
        rows.append([name, success(cell), percent(cell["clean_accuracy"])])
    by_arm = {row["defense"]: row for row in read("photographs_moves/unknown_25/summary.json") if row["victim"] == "lite0"}
    rows += [[name, success(by_arm[arm]), percent(by_arm[arm]["clean_accuracy"])] for arm, name in UNKNOWN.items()]
    return rows
