import pytest

from poison_and_defend.core.errors import InputError
from poison_and_defend.reports.border.cells import Cell, Conditions, Map, axes_of

CONDITIONS = Conditions(
    dataset="digits", attack="a", steps=2, draws=1, defense="diffusion", denoiser="d", scenario="transfer", surrogates=["s"]
)


def cell(attacker: str, eps: float, sigma: float, rate: float, count: int = 25, accuracy: float = 0.9) -> Cell:
    return Cell(
        attacker=attacker,
        eps=eps,
        num_poisons=count,
        victim="head",
        sigma=sigma,
        n=10,
        success_rate=rate,
        ci_low=0.0,
        ci_high=1.0,
        successes=round(10 * rate),
        trials=10,
        clean_accuracy=accuracy,
    )


def a_map(*cells: Cell) -> Map:
    return Map(CONDITIONS, cells)


def test_a_noise_holds_up_to_the_largest_budget_below_which_all_are_near_chance() -> None:
    found = a_map(
        cell("no_attack", 0.1, 0, 0.1),
        cell("oblivious", 0.1, 0.25, 0.0),
        cell("oblivious", 0.2, 0.25, 0.2),  # chance and a tenth
        cell("oblivious", 0.3, 0.25, 0.3),
        cell("oblivious", 0.4, 0.25, 0.0),  # by luck
        cell("defense", 0.1, 0.25, 0.8),
    )
    assert found.holds_up_to("oblivious", 0.25, 25, "head") == 0.2
    assert found.holds_up_to("defense", 0.25, 25, "head") is None
    assert found.holds_up_to("oblivious", 0.5, 25, "head") is None
    assert found.holds_up_to("oblivious", 0.25, 5, "head") is None


def test_the_undefended_run_stands_at_sigma_0_for_every_attacker() -> None:
    undefended, known = cell("oblivious", 0.1, 0, 1.0), cell("defense", 0.1, 0.25, 0.4)
    found = a_map(undefended, cell("oblivious", 0.1, 0.25, 0.1), known)
    assert found.of("defense", 25, "head") == {(0, 0.1): undefended, (0.25, 0.1): known}


def test_a_map_is_what_it_was_after_it_was_written_and_a_file_that_is_none_is_named() -> None:
    found = a_map(cell("no_attack", 0.1, 0, 0.0), cell("oblivious", 0.1, 0.25, 0.1))
    assert Map.from_json(found.to_json(), "border.json", "--border") == found
    for damaged in ({}, [], {"conditions": {}, "cells": []}, found.to_json() | {"cells": [{"eps": 1}]}):
        with pytest.raises(InputError, match=r"border\.json.*\(--border\)"):
            Map.from_json(damaged, "border.json", "--border")


def test_axes_are_of_attackers_only() -> None:
    axes = axes_of([cell("no_attack", 0.7, 0, 0), cell("defense", 0.2, 0.5, 0, 5), cell("oblivious", 0.1, 0.25, 0)])
    assert axes["eps"] == [0.1, 0.2] and axes["sigma"] == [0.25, 0.5] and axes["num_poisons"] == [25, 5]
    assert axes["attacker"] == ["defense", "oblivious"]
