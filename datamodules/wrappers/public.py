"""The public part of a data set as its training split."""

from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.datamodules.base import SplitName
from poison_and_defend.datamodules.wrappers.base import WrapperDataModule
from poison_and_defend.datamodules.wrappers.rows import public_split, used_rows


class PublicDataModule(WrapperDataModule):
    """The public part of a data set as its training split: what a pretrained model may see. Its labels say nothing.

    Args:
        source: The data set.
        setups: JSON file of setups; rows that they train on, and bases, are left out.
        train_size: Size of each victim's training set when setups come from a file.
        num_setups: How many setups of the file to respect.
        batch_size: Rows per step.
        more: A data set beside it that nobody receives: all of its training images are taken as well.
        whole: Whether nobody receives the source either, so that all of its training images are public.
    """

    def __init__(
        self,
        source: ArrayDataModule,
        setups: str | None = None,
        train_size: int | None = None,
        num_setups: int = 100,
        batch_size: int | None = None,
        more: ArrayDataModule | None = None,
        whole: bool = False,
    ) -> None:
        super().__init__(source, batch_size)
        if more is not None and more.image_shape != source.image_shape:
            raise InputError(
                f"images of {more.name} are of shape {more.image_shape}, those of {source.name} of {source.image_shape}: one "
                "denoiser takes one shape (--data.more)"
            )
        if whole and setups is not None:
            raise InputError(
                "whole is true: rows of setups are left out of a part, not of the whole (--data.whole, --data.setups)"
            )
        self.more, self.whole = more, whole
        self.setups, self.train_size, self.num_setups = setups, train_size, num_setups

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name != "train":
            return self.source.split(name)
        if self.whole:
            own = self.source.split("train")
        else:
            own = public_split(self.source, used_rows(self.source, self.setups, self.train_size, self.num_setups))
        return own if self.more is None else Split.joined([own, self.more.split("train")])
