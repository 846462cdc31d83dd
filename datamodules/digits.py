"""Real handwritten digits that ship with scikit-learn: the data set that needs no download."""

import numpy as np
import torch
from torch.nn import functional

from poison_and_defend.datamodules.base import ArrayDataModule, SplitName
from poison_and_defend.images.arrays import Split, make_split

_PARTS: dict[SplitName, slice] = {"public": slice(0, 800), "train": slice(800, 1398), "test": slice(1398, None)}


class DigitsDataModule(ArrayDataModule):
    """1,797 digits of 43 writers (Alpaydin and Kaynak, UCI, 1998), 8 x 8 with 17 grey levels, resized to 32 x 32.

    A fixed permutation gives 800 *public* images (what pretrained models may see), 598 for training and 399 for testing.
    """

    name = "digits"
    num_classes = 10
    image_shape = (1, 32, 32)

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(0).permutation(len(digits.target))[_PARTS[name]]
        small = torch.from_numpy(digits.images[order] / 16).float()[:, None]
        images = functional.interpolate(small, size=self.image_shape[1:], mode="bilinear", align_corners=False)
        return make_split(images, digits.target[order], self.num_classes, f"digits {name}")
