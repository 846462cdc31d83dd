"""What is watched and logged while something trains. Importing the room lets the command line name its classes."""

from callbacks.target_misclassification import TargetMisclassification
from callbacks.wandb_logging import QuietWandbLogger

__all__ = ["QuietWandbLogger", "TargetMisclassification"]
