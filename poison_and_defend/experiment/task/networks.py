"""Which networks an experiment needs, and what each depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.defenses import Adversarial, Plain
from poison_and_defend.lightning_modules.classifier import load_weights
from poison_and_defend.lightning_modules.networks.base import Classifier
from poison_and_defend.lightning_modules.networks.spec import Network
from poison_and_defend.lightning_modules.recipe import Recipe
from poison_and_defend.training.kept_models import ModelSpec

Knowledge = Literal["white box", "grey box", "black box"]

# A robust surrogate shares no seed with the extractor of any victim: it must be independent of it.
_ROBUST = 500


@dataclass(frozen=True, eq=False)
class Networks:
    """The attacker's surrogates and the extractors that victims start from.

    Attributes:
        data: What victims are trained on; its normalisation is inside every network.
        split: What extractors and standard surrogates are trained on, which has ``num_classes`` classes.
        robust_split: What adversarially trained surrogates are trained on, of the data's own classes; None if none is.
        attackers: Names of the networks in the attacker's ensemble.
        described: What the networks of attackers and victims are, by their names.
        per_attacker: How many networks of each.
        weights: safetensors files of the attackers, in their order, if the user gave any.
        robust: Whether surrogates are trained adversarially.
        same_extractor: Whether the attacker holds the very network that victims of his architectures start from.
        frozen: Whether networks are taken as they come, and none is trained; ``split`` then says the shape of images alone.
    """

    data: ArrayDataModule
    split: Split
    num_classes: int
    recipe: Recipe
    robust_split: Split | None
    robust_recipe: Recipe
    robust_training: Adversarial | None
    attackers: tuple[str, ...]
    described: Mapping[str, Network]
    per_attacker: int
    weights: tuple[Path, ...]
    robust: bool
    same_extractor: bool
    dropout: float
    low_precision: bool
    frozen: bool
    seed: int
    threads: int

    def model_seed(self, number: int) -> int:
        """Seeds that no victim shares: those count from zero per setup, these from the top."""
        return 2**62 - 1 - 7919 * (self.seed * 1000 + number)

    def standard(self, name: str, number: int = 0) -> ModelSpec:
        """The ``number``-th network of an architecture: the first is the victims' own extractor where they have one."""
        seed = self.model_seed(number)
        return ModelSpec(
            self.described[name],
            seed,
            self.recipe,
            self.split,
            self.num_classes,
            self.data,
            self.dropout,
            self.threads,
            trained=not self.frozen,
        )

    def adversarial(self, name: str, number: int = 0) -> ModelSpec:
        """An adversarially trained network over the data's own classes, on images that are no victim's where there are such.

        Raises:
            ValueError: If the experiment trains none.
        """
        if self.robust_split is None:
            raise ValueError("this experiment trains no network adversarially")
        seed = self.model_seed(_ROBUST + number)
        classes = self.data.num_classes
        return ModelSpec(
            self.described[name],
            seed,
            self.robust_recipe,
            self.robust_split,
            classes,
            self.data,
            threads=self.threads,
            defense=self.robust_training or Plain(),
        )

    def surrogate(self, name: str, number: int = 0) -> ModelSpec:
        """The attacker's ``number``-th network of an architecture."""
        return self.adversarial(name, number) if self.robust else self.standard(name, number)

    def surrogates(self) -> list[ModelSpec]:
        """All that the attacker trains."""
        return [self.surrogate(name, number) for name in self.attackers for number in range(self.per_attacker)]

    def given(self) -> list[Classifier]:
        """Surrogates whose weights the user gave.

        Raises:
            InputError: If they are of another architecture or another number of classes.
        """
        models = []
        for name, path in zip(self.attackers, self.weights, strict=True):
            model = self.surrogate(name).build()
            load_weights(model, path, option="--surrogate_weights")
            models.append(model)
        return models

    def knowledge(self, victim: str) -> Knowledge:
        """What the attacker knows of a victim: its very extractor, its architecture, or neither."""
        if self.described[victim] not in [self.described[name] for name in self.attackers]:
            return "black box"
        return "white box" if self.same_extractor else "grey box"
