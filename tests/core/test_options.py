from dataclasses import dataclass

import pytest

from poison_and_defend.core.options import from_flat, option_groups


@dataclass(frozen=True)
class Wood:
    oak: int
    elm: str = "tall"


@dataclass(frozen=True)
class Water:
    river: float = 2.0


@dataclass(frozen=True)
class Land:
    wood: Wood
    water: Water


@dataclass(frozen=True)
class Twice:
    wood: Wood
    forest: Wood


def test_flat_options_find_their_groups():
    assert option_groups(Land) == {"wood": Wood, "water": Water}
    assert from_flat(Land, {"oak": 3, "river": 1.0}) == Land(Wood(3), Water(1.0))


@pytest.mark.parametrize(("options", "named"), [({"oak": 1, "ash": 2}, "ash"), ({"river": 1.0}, "oak")])
def test_an_option_of_no_group_and_one_that_is_missing_are_refused(options, named):
    with pytest.raises(TypeError, match=named):
        from_flat(Land, options)


def test_an_option_in_two_groups_is_refused():
    with pytest.raises(TypeError, match="elm, oak"):
        option_groups(Twice)
