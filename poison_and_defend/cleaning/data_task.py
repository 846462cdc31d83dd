"""Sanitizing the data sets of this project.

Apart from :mod:`poison_and_defend.cleaning.task`, since they take seconds to import.
"""

from dataclasses import dataclass, field

from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.datamodules import ArrayDataModule


@dataclass(frozen=True)
class SanitizeData(SanitizeInput):
    """The set to sanitize: name its place, or one of the data sets of this project.

    Args:
        source: A data set of this project, or one of your own by the path of its class, whose training split is sanitized.
    """

    source: ArrayDataModule | None = None


@dataclass(frozen=True)
class SanitizeDataTask(SanitizeTask):
    """Add noise to a whole set of images and denoise it."""

    data: SanitizeData = field(default_factory=SanitizeData)
