"""Data sets of a user's own: any ``LightningDataModule`` or map-style ``Dataset``, by the path of its class."""

import inspect
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.foreign import import_named, in_one_sentence
from poison_and_defend.core.processes.ranks import is_first_rank
from poison_and_defend.core.progress import StoreProgress
from poison_and_defend.datamodules.base import ArrayDataModule, SplitName, per_channel
from poison_and_defend.images.arrays import Split, make_split
from poison_and_defend.images.items import pair_of, read_items

_BAR_ABOVE = 1000
# What the constructors of most data sets call their parts.
_PARTS: dict[str, dict[str, Any]] = {
    "train": {"train": True, "test": False},
    "split": {"train": "train", "test": "test"},
}


class OwnDataModule(ArrayDataModule):
    """A data set of your own, by the path of its class: any ``LightningDataModule``, or a map-style ``Dataset``.

    ``--data my_module.MyData --data.x 1`` is short for ``--data OwnDataModule --data.source my_module.MyData
    --data.arguments.x 1``; an option that both classes have goes to both. Rows are pairs of an image and a label. Images are
    uint8 or float in [0, 1] and all of one shape: tensors (C, H, W), arrays (H, W, C), either also (H, W), or PIL images.

    Everything is read once, in the order of the data set behind the training loader, since order and batches are chosen here.
    Random transformations of the class are drawn once, from a fixed seed: augment by the recipe instead. Where there is no
    test loader, the validation loader stands for it. A class that downloads does so on one process of each node; where a
    launcher starts all processes at once, let it download beforehand.

    Args:
        source: Path of the class, such as ``my_module.MyData``; a file ``my_module.py`` of the working folder is found.
        arguments: What the class is built with.
        train_arguments: What a ``Dataset`` is built with for the training split besides ``arguments``; by default
            ``train=True`` or ``split="train"`` where it takes one of these.
        test_arguments: What a ``Dataset`` is built with for the test split besides ``arguments``; by default ``train=False`` or
            ``split="test"`` where it takes one of these.
        public_arguments: What the class is built with, besides ``arguments``, for images that pretrained models may see;
            without them there is no such part.
        num_classes: Number of classes; by default what ``classes`` or ``num_classes`` of the data set says, or else one more
            than the largest label of the training split.
        mean: Per-channel mean that models normalize with, in [0, 1] units; by default 0.5.
        std: Per-channel standard deviation that models normalize with, in [0, 1] units; by default 0.5.
        batch_size: Rows per training batch, over all ranks.
        seed: Seeds the order of training rows.
    """

    def __init__(
        self,
        source: str,
        arguments: dict[str, Any] | None = None,
        train_arguments: dict[str, Any] | None = None,
        test_arguments: dict[str, Any] | None = None,
        public_arguments: dict[str, Any] | None = None,
        num_classes: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        if num_classes is not None and num_classes < 2:
            raise InputError(f"num_classes is {num_classes}: a classifier needs two classes or more (--data.num_classes)")
        self.source, self.name = source, source.rpartition(".")[2]
        self._kind = find_source(source, "--data.source")
        given = {"train": train_arguments, "test": test_arguments, "public": public_arguments}
        self._arguments = _arguments(self._kind, source, arguments or {}, given)
        self._built: dict[str, Any] = {}
        images, labels, says = self._read("train")
        self.num_classes = num_classes or says or int(labels.max()) + 1
        channels, height, width = images.shape[1:]
        self.image_shape = (channels, height, width)
        self.mean, self.std = per_channel(mean, std, channels)
        self._splits["train"] = make_split(images, labels, self.num_classes, f"{source} (--data.num_classes), train")

    def load(self, name: SplitName) -> Split:
        """See :meth:`ArrayDataModule.load`."""
        if name not in self._arguments:
            raise InputError(
                f"{self.source} has no public part: say what it is built with there, or pretrain on another data set "
                "(--data.public_arguments '{split: extra}', --pretraining)"
            )
        images, labels, _ = self._read(name)
        if tuple(images.shape[1:]) != self.image_shape:
            raise InputError(
                f"{self.source}, {name}: images of shape {tuple(images.shape[1:])}, the training split's are "
                f"{self.image_shape}: resize all images to one shape (--data)"
            )
        return make_split(images, labels, self.num_classes, f"{self.source} (--data.num_classes), {name}")

    def _read(self, name: SplitName) -> tuple[torch.Tensor, torch.Tensor, int | None]:
        """Images and labels of a part, and how many classes it says that there are."""
        about = f"{self.source}, {name}"
        with _fixed_seeds():
            built = self._build(name)
            with in_one_sentence(f"{about} cannot be read", "--data"):
                rows, says = (built, None)
                if isinstance(built, L.LightningDataModule):
                    rows, says = _behind(built, name, about), _classes_of(built)
                # None knows the length of what is read by a loader that has no data set with rows by number.
                count = None if isinstance(rows, DataLoader) else len(rows)
                items = _rows_of_batches(rows, about) if count is None else (rows[row] for row in range(count))
                enabled = is_first_rank() and (count is None or count > _BAR_ABOVE)
                with StoreProgress(f"read {about}", enabled=enabled) as bar:
                    images, labels = read_items(items, count, about, "--data", bar)
        return images, labels, says or _classes_of(rows)

    def _build(self, name: SplitName) -> Any:
        """The data set of a part, or the data module, which has two of them."""
        whole = issubclass(self._kind, L.LightningDataModule)
        key = "train" if whole and name == "test" else name
        if key in self._built:
            return self._built[key]
        arguments = self._arguments[key]
        given = f" with {arguments}" if arguments else ""
        with in_one_sentence(f"{self.source} cannot be built{given}", "--data, --data.arguments"):
            # Of nobody's context: Lightning's command line says in it what the outer class was given, and
            # `save_hyperparameters` of the inner one would take that for its own.
            built = Context().run(lambda: self._kind(**arguments))
        if isinstance(built, L.LightningDataModule):
            with in_one_sentence(f"{self.source} cannot be prepared", "--data"):
                if os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0")) == "0":
                    built.prepare_data()
                built.setup("fit")
        self._built[key] = built
        return built


def find_source(path: str, option: str) -> type:
    """The class that a path names; nothing of it is built.

    Raises:
        InputError: If it cannot be imported, or is neither a data module nor a data set with rows by number.
    """
    found = import_named(path, option) if "." in path else None
    if not inspect.isclass(found) or not issubclass(found, L.LightningDataModule | Dataset) or inspect.isabstract(found):
        raise InputError(f"{path} is neither a LightningDataModule nor a torch.utils.data.Dataset with rows ({option})")
    if issubclass(found, IterableDataset) or (issubclass(found, Dataset) and not hasattr(found, "__len__")):
        raise InputError(f"{path} has no rows by number: give it __len__ and __getitem__, or a LightningDataModule ({option})")
    return found


def _arguments(
    kind: type, path: str, common: Mapping[str, Any], given: Mapping[str, dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """What the class is built with for each part."""
    public = {"public": {**common, **given["public"]}} if given["public"] is not None else {}
    if issubclass(kind, L.LightningDataModule):
        for name in ("train", "test"):
            if given[name]:
                raise InputError(
                    f"{name}_arguments are {given[name]}: {path} is a LightningDataModule, which has both splits "
                    f"(--data.{name}_arguments; --data.arguments)"
                )
        return {"train": dict(common), "test": dict(common), **public}
    takes = inspect.signature(kind).parameters
    default = next(({part: {name: value} for part, value in _PARTS[name].items()} for name in _PARTS if name in takes), {})
    parts = {part: {**default.get(part, {}), **common, **(given[part] or {})} for part in ("train", "test")}
    if parts["train"] == parts["test"]:
        raise InputError(
            f"{path} would be built with {parts['train']} for training and for testing: say what each split takes, for example "
            "--data.train_arguments '{part: train}' --data.test_arguments '{part: test}' (--data.train_arguments, "
            "--data.test_arguments)"
        )
    return {**parts, **public}


def _behind(module: L.LightningDataModule, name: SplitName, about: str) -> Any:
    """The data set behind a loader of a data module, or the loader where that has no rows by number."""
    loader = None
    if name != "test":
        loader = module.train_dataloader()
    elif type(module).test_dataloader is not L.LightningDataModule.test_dataloader:
        module.setup("test")
        loader = module.test_dataloader()
    if name == "test" and loader is None:
        module.setup("validate")
        loader = module.val_dataloader()
    loader = loader[0] if isinstance(loader, list | tuple) and len(loader) == 1 else loader
    if not isinstance(loader, DataLoader):
        raise InputError(f"{about}: the loader is a {type(loader).__name__}, and one DataLoader is needed (--data)")
    rows = loader.dataset
    return rows if not isinstance(rows, IterableDataset) and hasattr(rows, "__len__") else loader


def _rows_of_batches(loader: Any, about: str) -> Iterator[tuple[Any, Any]]:
    for number, batch in enumerate(loader):
        images, labels = pair_of(batch, f"{about}, batch {number}", "--data")
        yield from zip(images, labels, strict=True)


def _classes_of(rows: Any) -> int | None:
    """What a data set says of its classes, or one that it is a part of."""
    while rows is not None:
        number, classes = getattr(rows, "num_classes", None), getattr(rows, "classes", None)
        if isinstance(number, int) and number > 1:
            return number
        if isinstance(classes, list | tuple) and len(classes) > 1:
            return len(classes)
        rows = getattr(rows, "dataset", None)
    return None


@contextmanager
def _fixed_seeds() -> Iterator[None]:
    """Every process, and every run, must see the same rows, also where a class draws some of them."""
    plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is what such classes draw from
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(arrays)  # noqa: NPY002
