"""What is watched and logged while something trains. Importing the room lets the command line name its classes."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.callbacks":
    raise ImportError("this package is poison_and_defend.callbacks: import that")

from poison_and_defend.callbacks.target_misclassification import TargetMisclassification
from poison_and_defend.callbacks.wandb_logging import QuietWandbLogger

__all__ = ["QuietWandbLogger", "TargetMisclassification"]
