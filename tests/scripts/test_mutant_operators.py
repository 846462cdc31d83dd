"""Which faults are planted, and which of them are drawn."""

import ast

import pytest

from scripts.mutants.chosen import drawn
from scripts.mutants.operators import mutants_of
from tests.scripts.small_source import SOURCE


def test_texts_annotations_and_defaults_are_left_alone_and_every_mutant_is_another_program() -> None:
    found = mutants_of("room/code.py", SOURCE)
    assert not {"3 words", "4 words", "2.0", "5", "int", "float"} & {mutant.before for mutant in found}
    assert len({mutant.key for mutant in found}) == len(found)
    tree = ast.dump(ast.parse(SOURCE))
    assert all(ast.dump(ast.parse(mutant.planted(SOURCE))) != tree for mutant in found)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Adam([x], lr=self.learning_rate)", "Adam([x], lr=(5 * self.learning_rate))"),
        ("self.budget.project(x, bases)", "x"),
        ("Fit(threads, frozen_statistics=True)", "Fit(threads)"),
        ("x.detach()", "x"),
        ("x.sum(dim=-1)", "x.mean(dim=-1)"),
        ("x.sum(dim=-1)", "x.sum(dim=(1))"),
        ("nearest(a, b)", "nearest(b, a)"),
        ("a if b else c", "(c if b else a)"),
        ("x is not None", "x is None"),
        ("x not in y", "x in y"),
        ("0.5", "2.5"),
        ("ä + 1", "ä - 1"),  # bytes and characters differ
    ],
)
def test_faults_of_the_kinds_that_matter_are_planted(before: str, after: str) -> None:
    source = f"y = {before}\n"
    assert f"y = {after}\n" in [mutant.planted(source) for mutant in mutants_of("a.py", source)]


def test_a_draw_is_the_same_again_and_goes_on_with_more() -> None:
    found = mutants_of("room/code.py", SOURCE)
    few, more = drawn(found, 5, 0), drawn(found[::-1], 12, 0)
    assert few == more[:5] and drawn(found, 5, 1) != few and len(drawn(found, 0, 0)) == len(found)
    # A line above moves all others, and draws none of them anew.
    moved = mutants_of("room/code.py", SOURCE.replace("\n\n\ndef covered", "\n\nNEW = 17\n\n\ndef covered"))
    assert {mutant.key for mutant in found} < {mutant.key for mutant in moved}
