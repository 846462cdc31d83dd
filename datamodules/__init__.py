"""Where images come from. Importing the room lets the command line name its classes without a path."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.datamodules":
    raise ImportError("this package is poison_and_defend.datamodules: import that")

from poison_and_defend.datamodules.arrays import ArraysDataModule
from poison_and_defend.datamodules.base import ArrayDataModule, Split
from poison_and_defend.datamodules.cifar10 import CIFAR10DataModule, CIFAR100DataModule
from poison_and_defend.datamodules.digits import DigitsDataModule
from poison_and_defend.datamodules.fashion_mnist import FashionMNISTDataModule
from poison_and_defend.datamodules.image_folder import ImageFolderDataModule
from poison_and_defend.datamodules.mnist import MNISTDataModule
from poison_and_defend.datamodules.own import OwnDataModule
from poison_and_defend.datamodules.tiny_imagenet import TinyImageNetDataModule
from poison_and_defend.datamodules.wrappers.poisoned import PoisonedDataModule
from poison_and_defend.datamodules.wrappers.sanitized import DiffusionSanitizeDataModule

__all__ = [
    "ArrayDataModule",
    "ArraysDataModule",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DiffusionSanitizeDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "OwnDataModule",
    "PoisonedDataModule",
    "Split",
    "TinyImageNetDataModule",
]
