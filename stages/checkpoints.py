"""Classifiers that a fit left."""

from pathlib import Path

import torch

from errors import InputError
from lightning_modules.classifier import ClassifierModule


def load_classifier(path: Path, channels: int, classes: int, option: str) -> ClassifierModule:
    """A ``ClassifierModule`` in evaluation mode from a Lightning checkpoint, of which only tensors and plain values are read.

    Args:
        path: The checkpoint.
        channels: Of the images that it is to read.
        classes: How many they have, at least.
        option: What the user should change if it cannot be used.

    Raises:
        InputError: If the file is missing, foreign or of another model, or does not fit the images.
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
    found = model.hparams
    if found["in_channels"] != channels or found["num_classes"] < classes:
        raise InputError(
            f"the classifier {path} reads images of {found['in_channels']} channels and {found['num_classes']} classes, "
            f"these have {channels} and {classes} ({option})"
        )
    return model.eval()
