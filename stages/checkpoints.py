"""Classifiers that a fit left."""

from pathlib import Path

import torch

from errors import InputError
from lightning_modules.classifier import ClassifierModule


def load_classifier(path: Path, option: str) -> ClassifierModule:
    """A ``ClassifierModule`` in evaluation mode from a Lightning checkpoint, of which only tensors and plain values are read.

    Raises:
        InputError: If the file is missing, foreign or of another model.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        known = ("backbone", "num_classes", "in_channels", "mean", "std", "seed")
        given = {name: value for name, value in checkpoint["hyper_parameters"].items() if name in known}
        model = ClassifierModule(**given)
        model.load_state_dict(checkpoint["state_dict"])
    # Files that are no checkpoints make torch raise many kinds.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"cannot read a classifier from {path}: {reason} ({option})") from error
    return model.eval()
