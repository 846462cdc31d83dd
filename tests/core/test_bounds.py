import math
from functools import partial

import pytest

from poison_and_defend.core.bounds import above, at_least, share
from poison_and_defend.core.errors import InputError


@pytest.mark.parametrize(
    ("check", "allowed", "refused", "told"),
    [
        (partial(at_least, "steps", bound=1), (1, 2), (0, -1, math.nan), r"it must be at least 1 \(--steps\)"),
        (partial(above, "rate", bound=0), (1e-9, 3), (0, -0.5, math.nan), r"it must be above 0 \(--rate\)"),
        (partial(share, "shift"), (0, 0.5, 0.999), (1, -0.1, math.nan), r"it is a share in \[0, 1\) \(--shift\)"),
    ],
)
def test_a_bound_names_value_bound_and_option(check, allowed, refused, told) -> None:
    for value in allowed:
        check(value=value)
    for value in refused:
        with pytest.raises(InputError, match=f"is {value:g}: {told}"):
            check(value=value)


def test_what_it_belongs_to_and_what_to_change_can_be_said() -> None:
    with pytest.raises(InputError, match=r"^epochs of a recipe is 0: it must be at least 1 \(--\*recipe.epochs 1\)$"):
        at_least("epochs", 0, 1, "--*recipe.epochs 1", of="of a recipe")
    with pytest.raises(InputError, match=r"^watermark is 2: it is an opacity in \[0, 1\) \(--attack.watermark\)$"):
        share("watermark", 2, "--attack.watermark", of="an opacity")
