"""What is trained. Importing the room lets the command line name its classes without a path."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.lightning_modules":
    raise ImportError("this package is poison_and_defend.lightning_modules: import that")

from poison_and_defend.lightning_modules.classifier import ClassifierModule
from poison_and_defend.lightning_modules.denoiser import DenoiserModule

__all__ = ["ClassifierModule", "DenoiserModule"]
