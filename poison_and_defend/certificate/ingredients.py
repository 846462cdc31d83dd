"""Where everything that votes depend on came from: constants, trusted data, or what an attacker may have touched."""

from dataclasses import dataclass, replace
from functools import cached_property

from poison_and_defend.certificate.task import CertifyTask
from poison_and_defend.certification import Ingredient, vouch
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.datamodules.wrappers.base import WrapperDataModule
from poison_and_defend.datamodules.wrappers.sanitized import DiffusionSanitizeDataModule
from poison_and_defend.diffusion.find_denoiser import find_denoiser
from poison_and_defend.images.near_copies import NearCopies, near_copies
from poison_and_defend.images.row_digests import Digests, read_training_rows, row_digests, shared_rows
from poison_and_defend.lightning_modules.networks.spec import Network

PRETRAINED = "pretrained"
"""Instead of a file of features: the weights that a network comes with."""


@dataclass(frozen=True, eq=False)
class Origins:
    """Finds out where everything that the votes depend on came from.

    Attributes:
        count: How many settings there are to choose from.
    """

    task: CertifyTask
    count: int

    @cached_property
    def _received(self) -> Digests:
        return row_digests(self.task.received.data.split("train").images)

    def ingredients(self) -> list[Ingredient]:
        """Every ingredient with its origin, those that the user vouches for marked.

        Raises:
            InputError: If the user vouches for what is not there, or known to be raw.
        """
        data, learner, trust = self.task.received.data, self.task.learner, self.task.trust
        found = [
            Ingredient("normalization", data.statistics_origin, _NORMALIZATION[data.statistics_origin]),
            self._stopping(),
        ]
        if _rewritten(data):
            found.append(Ingredient("received images", "raw", _REWRITTEN))
        if learner.defense == "diffusion":
            found.append(self._denoiser())
        if learner.network.trained:
            found.append(_pretrained(learner.network))
        if learner.learner == "head" and trust.features != PRETRAINED:
            found.append(self._trained_on_public("features") if trust.features is None else _foreign(trust.features))
        if trust.warm_start == "raw":
            found.append(Ingredient("warm start", "raw", "voters start from a model of the received images without noise"))
        elif trust.warm_start == "trusted":
            # The start is the trusted extractor itself, or its twin.
            known = next((i for i in found if i.name == "features"), None) or self._trained_on_public("features")
            found.append(replace(known, name="warm start"))
        if self.count > 1 and self.task.goal.pilot:
            found.append(
                Ingredient("choice of sigma and m", "noised", "by pilot voters, none of whom is counted in the certificate")
            )
        return vouch(found, trust.vouch)

    def _stopping(self) -> Ingredient:
        name = "training length"
        if self.task.trust.stop_on == "raw":
            return Ingredient(name, "raw", "voters stop where they are best on the received images without noise")
        if self.task.trust.stop_on == "trusted":
            return self._trained_on_public(name)
        return Ingredient(name, "fixed", f"{self.task.learner.recipe.epochs} epochs, nothing is selected on the way")

    def _denoiser(self) -> Ingredient:
        folder = find_denoiser(self.task.learner.denoiser)[1]
        seen = None if folder is None else read_training_rows(folder)
        if seen is None:
            return Ingredient("denoiser", "unknown", f"nothing says which images {self.task.learner.denoiser} was trained on")
        return self._compared("denoiser", seen)

    def _trained_on_public(self, name: str) -> Ingredient:
        found = self._compared(name, row_digests(self.task.received.data.split("public").images))
        if found.origin == "raw" or not self._copies.suspicious:
            return found
        told = f"{len(self._copies)} public images look like received ones, from {self._copies.told()}"
        return Ingredient(name, "unknown", told)

    @cached_property
    def _copies(self) -> NearCopies:
        data = self.task.received.data
        return near_copies(data.split("public").images, data.split("train").images)

    def _compared(self, name: str, seen: Digests) -> Ingredient:
        common = shared_rows(seen, self._received)
        if common:
            return Ingredient(
                name, "raw", f"made with {common} of the {len(self._received)} images that an attacker may change"
            )
        return Ingredient(name, "trusted", f"made with {len(seen)} images, none of which is in the received set")


def _rewritten(data: ArrayDataModule) -> bool:
    """Whether a defence somewhere in a chain of wrappers has changed the training images before voters see them."""
    if isinstance(data, DiffusionSanitizeDataModule) and data.defense is not None:
        return True
    return isinstance(data, WrapperDataModule) and _rewritten(data.source)


_REWRITTEN = (
    "another defence has rewritten them before any voter's noise, so that a budget would be one of its output, not of what was "
    "received; give its source instead (--data)"
)

_NORMALIZATION = {
    "fixed": "constants that were there before the data",
    "trusted": "computed from the public part",
    "raw": "mean and standard deviation were computed from the received images; give them, or take those of the public part "
    "(--data.mean and --data.std, --data.statistics_from public)",
}


def _foreign(path: str) -> Ingredient:
    return Ingredient("features", "unknown", f"nothing says which images {path} was trained on")


def _pretrained(network: Network) -> Ingredient:
    origin = network.weights or f"the pretrained weights of {network.build}"
    return Ingredient("network", "unknown", f"nothing says which images {origin} was trained on")


def check_pretrained(task: CertifyTask) -> None:
    """Refuse frozen features of a network that was never trained, or that nothing looks at.

    Raises:
        InputError: Saying what to give.
    """
    if task.trust.features != PRETRAINED:
        return
    if not task.learner.network.trained or task.learner.learner != "head" or task.trust.warm_start != "none":
        raise InputError(
            f"features is {PRETRAINED}: linear heads with weights of their own need a network that comes trained, such as "
            f"efficientnet_lite0; {task.learner.network.build} is the network (--network, --learner head, --warm_start none)"
        )


def check_public(task: CertifyTask) -> None:
    """Refuse a task that needs trusted images of a data set that has none.

    Raises:
        InputError: Saying what to give.
    """
    trust = task.trust
    if "trusted" in (trust.warm_start, trust.stop_on) or (task.learner.learner == "head" and trust.features is None):
        try:
            task.received.data.split("public")
        except InputError as error:
            raise InputError(
                f"a certificate with trusted features needs images out of the attacker's reach: {error}; or give weights "
                "(--features) or train whole networks (--learner network)"
            ) from error


def tested_images(data: ArrayDataModule, wanted: int | None) -> Split:
    """The first so many test images, all where nothing is said.

    Raises:
        InputError: If there are not as many.
    """
    split = data.split("test")
    count = len(split) if wanted is None else wanted
    if not 1 <= count <= len(split):
        raise InputError(f"test_images is {count}: there are 1 to {len(split)} (--test_images)")
    return Split(split.images[:count], split.labels[:count])
