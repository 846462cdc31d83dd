"""What a backdoor changes on images that are to be misread, as whoever tests, shows and stores it sees it."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor


class BackdoorTrigger(ABC):
    """A change of test images, known once poisons are there.

    Attributes:
        pattern: What is stored of it: the array, whatever its meaning.
    """

    pattern: Tensor

    @abstractmethod
    def check_fits(self, shape: tuple[int, ...]) -> None:
        """Refuse images ``(C, H, W)`` that it cannot be put on.

        Raises:
            InputError: Saying why.
        """

    @abstractmethod
    def stamp(self, images: Tensor, keys: Tensor) -> Tensor:
        """The images with the trigger.

        Args:
            images: ``(N, C, H, W)`` uint8, or float in [0, 1].
            keys: ``(N,)`` int64, such as the images' row numbers, for what differs from image to image.

        Returns:
            The same shape and dtype.
        """

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All but the pattern, as JSON can hold it."""

    def mask(self, height: int, width: int) -> Tensor | None:
        """``(H, W)`` bool: the few pixels that it covers, where poisons may carry it beyond their budget; None if all."""
        del height, width
        return None

    def equals(self, other: "BackdoorTrigger") -> bool:
        """Whether both change every image alike."""
        return self.settings() == other.settings() and torch.equal(self.pattern, other.pattern)
