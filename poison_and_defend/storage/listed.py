"""The images of a set as its working folder lists them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Listed:
    """What a source leaves in a working folder, for whoever prepares a target.

    Attributes:
        count: How many images there are.
        identity: What identifies them, as a set's settings hold it.
        labels: Returns ``(N,)`` int64: the class of each.
        shape: Returns ``(C, H, W)``, that of all of them.
        named: Whether the folder holds their names.
        not_taken: Names of the files that are no images or hidden, in order.
    """

    count: int
    identity: dict[str, Any]
    labels: Callable[[], NDArray[np.int64]]
    shape: Callable[[], tuple[int, ...]]
    named: bool = False
    not_taken: list[str] = field(default_factory=list)
