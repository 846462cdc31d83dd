"""Where images come from. Importing the room lets the command line name its classes without a path."""

from datamodules.arrays import ArraysDataModule
from datamodules.base import ArrayDataModule, Split
from datamodules.cifar10 import CIFAR10DataModule, CIFAR100DataModule
from datamodules.digits import DigitsDataModule
from datamodules.image_folder import ImageFolderDataModule
from datamodules.mnist import MNISTDataModule
from datamodules.poisoned import PoisonedDataModule
from datamodules.sanitized import DiffusionSanitizeDataModule
from datamodules.tiny_imagenet import TinyImageNetDataModule

__all__ = [
    "ArrayDataModule",
    "ArraysDataModule",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "DiffusionSanitizeDataModule",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "PoisonedDataModule",
    "Split",
    "TinyImageNetDataModule",
]
