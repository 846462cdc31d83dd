"""Sanitizing the data sets of this project.

Apart from :mod:`poison_and_defend.cleaning.task`, since they take seconds to import.
"""

from dataclasses import dataclass, field

from torch import Tensor

from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArrayDataModule
from poison_and_defend.images.arrays import Split


@dataclass
class SanitizeData(SanitizeInput):
    """The set to sanitize: name the first or the last.

    Args:
        root: See :class:`SanitizeInput`.
        channels: Likewise.
        source: A data set of this project, whose training split is sanitized.
    """

    source: ArrayDataModule | None = None

    def arrays(self) -> tuple[Split, Tensor] | None:
        """See :meth:`SanitizeInput.arrays`."""
        if self.source is None:
            return super().arrays()
        if self.root is not None:
            raise InputError(f"both {self.root} and {self.source.name} are named: sanitize one (--data.root, --data.source)")
        return self.source.split("train"), self.source.row_numbers()


@dataclass
class SanitizeDataTask(SanitizeTask):
    """Add noise to a whole set of images and denoise it."""

    data: SanitizeData = field(default_factory=SanitizeData)
