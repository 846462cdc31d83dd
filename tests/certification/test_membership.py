from itertools import product

import numpy as np
import pytest

from poison_and_defend.certification import Poisson, joint_lower, membership_lower
from poison_and_defend.core.errors import InputError


def probability(rule, rows: tuple[int, ...], q: float) -> float:
    """Chance that the rule answers 1, over all subsamples of named rows."""
    total = 0.0
    for drawn in product((False, True), repeat=len(rows)):
        seen = frozenset(row for row, own in zip(rows, drawn, strict=True) if own)
        total += rule(seen) * q ** len(seen) * (1 - q) ** (len(rows) - len(seen))
    return total


@pytest.mark.parametrize("q", [0.05, 0.3, 0.7])
def test_no_rule_on_any_subsample_falls_below(q: float, generator: np.random.Generator) -> None:
    """Rows by their names: 0 to 3 stay, 4 and 5 go or become 14 and 15, 20 and 21 come."""
    cases = 0
    for added, removed, changed in product(range(3), range(3), range(3)):
        if removed + changed > 2:
            continue
        received = (0, 1, 2, 3, 4, 5)
        others = [row + 10 if row in (4, 5)[2 - changed :] else row for row in received]
        attacked = (*[row for row in others if row not in (4, 5)[:removed]], *(20, 21)[:added])
        touched = set(attacked) ^ set(received)
        for _ in range(30):
            answers: dict[frozenset[int], float] = {}
            worst = generator.random() < 0.5

            def rule(seen, answers=answers, worst=worst, touched=touched, received=received) -> float:
                if worst and seen & touched:
                    # All that the attacker can do: right for what was received, wrong for what was not.
                    return float(seen <= set(received))
                return answers.setdefault(seen, float(generator.random() < 0.8))

            bound = float(membership_lower(probability(rule, received, q), added, removed, changed, Poisson(6, q)))
            found = probability(rule, attacked, q)
            assert found >= bound
            # Attained up to what is taken off.
            assert not worst or bound == 0 or found == pytest.approx(bound, abs=1e-8)
            cases += bound > 0
    assert cases > 100


def test_changes_alone_are_those_of_the_joint_bound_without_end() -> None:
    sampling = Poisson(50_000, 0.002)
    p = np.array([0.6, 0.9, 0.999])
    assert membership_lower(p, 0, 0, 25, sampling) == pytest.approx(joint_lower(p, 25, np.inf, 1.0, sampling), abs=1e-8)
    assert (membership_lower(p, 25, 0, 0, sampling) > membership_lower(p, 0, 0, 25, sampling)).all()
    assert membership_lower(p, 0, 0, 0, sampling).tolist() == p.tolist()


def test_models_that_see_everything_are_promised_nothing() -> None:
    for added, removed, changed in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert membership_lower([1.0, 0.9], added, removed, changed, Poisson(1000, 1.0)).tolist() == [0, 0]


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="-1 added, 0 removed and 0 changed"):
        membership_lower(0.9, -1, 0, 0, Poisson(10, 0.5))
    with pytest.raises(InputError, match="k is 11"):
        membership_lower(0.9, 0, 5, 6, Poisson(10, 0.5))
