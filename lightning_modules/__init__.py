"""What is trained. Importing the room lets the command line name its classes without a path."""

from lightning_modules.classifier import ClassifierModule
from lightning_modules.denoiser import DenoiserModule

__all__ = ["ClassifierModule", "DenoiserModule"]
