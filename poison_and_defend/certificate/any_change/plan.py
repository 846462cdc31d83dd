"""A certificate of any change that can be had: everything refused that cannot work, nothing computed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from poison_and_defend.certificate.any_change.rows import Rows, keyed_order
from poison_and_defend.certificate.any_change.task import FAMILIES, AnyChangeTask, Trusted, Votes
from poison_and_defend.certificate.ingredients import tested_images
from poison_and_defend.certification import Ingredient, void_reasons, vouch
from poison_and_defend.certification.sampling import check_k
from poison_and_defend.core.bounds import at_least
from poison_and_defend.core.errors import InputError
from poison_and_defend.datamodules import ArrayDataModule, Split
from poison_and_defend.images.near_copies import near_copies
from poison_and_defend.images.row_digests import row_digests, shared_rows
from poison_and_defend.lightning_modules.networks.check import check_network, takes_statistics
from poison_and_defend.lightning_modules.networks.spec import Network

_MOST_SPREAD = 10


@dataclass(frozen=True, eq=False)
class AnyChangePlan:
    """What the steps of such a certificate take; they never ask the options again.

    Attributes:
        train: The training split.
        rows: Those of its rows that an attacker may have changed.
        trusted: Images whose labels count besides; maybe none.
        tested: Test images that are voted on.
        reference: Trusted images that say how features are compared.
        labelled: Whether their labels may choose the votes.
        ingredients: Everything that votes depend on, with its origin.
        void: What voids the certificate; a plan with such reasons was asked for.
        folder: Where everything of this certificate is kept.
        features: Where features are kept by content.
    """

    data: ArrayDataModule
    train: Split
    rows: Rows
    trusted: Split
    tested: Split
    reference: Split
    labelled: bool
    networks: list[Network]
    asked: Votes
    k: list[int]
    seed: int
    ingredients: list[Ingredient]
    void: list[str]
    folder: Path
    features: Path


def plan_any_change(task: AnyChangeTask) -> AnyChangePlan:
    """Look at the data and refuse what cannot work; no feature is computed.

    Raises:
        InputError: If a value is out of its bounds, there is no reference, or something voids the certificate and
            ``uncertified`` is not set.
    """
    data, trust, place = task.received.data, task.trust, task.place
    at_least("seed", place.seed, 0)
    at_least("trusted", trust.trusted, 0)
    train = data.split("train")
    public = _public(data)
    if isinstance(public, InputError) and trust.reference is None:
        raise InputError(
            f"votes are compared on images out of the attacker's reach: {public}; or name a labelled data set of them "
            "(--reference)"
        ) from public
    trusted, rows = _trusted(trust.trusted, train, public, data.num_classes, place.seed)
    _check_votes(task.ballot, len(rows), trust.trusted, trust.reference is not None)
    if not task.claims.k:
        raise InputError("name at least one number of poisons (--k)")
    for k in task.claims.k:
        check_k(k, len(rows))
    if not trust.networks:
        raise InputError("networks is empty: votes need features (--networks)")
    tested = tested_images(data, task.received.test_images)
    reference = _reference(data, trust, public)
    networks = [Network.of(network) for network in trust.networks]
    for network in networks:
        for images in (train.images, reference.images):
            check_network(network, (images.shape[1], images.shape[2], images.shape[3]), 2, "--networks")
    ingredients = _ingredients(task, networks, reference, train, trusted, public)
    void = void_reasons(ingredients)
    if void and not trust.uncertified:
        raise InputError(
            f"this would be no certificate: {'; '.join(void)}. If the origin is unknown and you know better, say so "
            "(--vouch); to see the numbers all the same, labelled as uncertified (--uncertified true)"
        )
    return AnyChangePlan(
        data=data,
        train=train,
        rows=rows,
        trusted=trusted,
        tested=tested,
        reference=reference,
        labelled=trust.reference is not None,
        networks=networks,
        asked=task.ballot,
        k=sorted(set(task.claims.k)),
        seed=place.seed,
        ingredients=ingredients,
        void=void,
        folder=Path(place.output_dir) / (place.name or f"{data.name}-any-change"),
        features=Path(place.output_dir) / "features",
    )


def _check_votes(votes: Votes, n: int, trusted: int, labelled: bool) -> None:
    if not votes.votes or not set(votes.votes) <= set(FAMILIES):
        raise InputError(f"votes is {votes.votes}: name some of {', '.join(FAMILIES)} (--votes)")
    if set(votes.votes) == {"hybrid"} and not trusted:
        raise InputError("votes is hybrid alone: its heads see trusted images, of which there are 0 (--trusted, --votes)")
    for name, values in (("shares", votes.shares), ("radii", votes.radii), ("m", votes.m)):
        if values is not None and (not values or (len(values) > 1 and not labelled)):
            raise InputError(
                f"{name} is {values}: one value, or several of which a labelled reference chooses (--{name}, --reference)"
            )
    if votes.shares and votes.radii:
        raise InputError("shares and radii both say how near neighbours are: give one of them (--shares, --radii)")
    for share in votes.shares or []:
        if not 0 < share < 1:
            raise InputError(f"share {share:g} is outside (0, 1): it is that of images within the radius (--shares)")
    for radius in votes.radii or []:
        if not -1 < radius < 1:
            raise InputError(f"radius {radius:g} is outside (-1, 1): it is a cosine (--radii)")
    for m in votes.m or []:
        if not 1 <= m <= n // 2:
            raise InputError(f"m is {m}: a part of {n} received images has 1 to {n // 2}, so that there are two (--m)")
    most = min(_MOST_SPREAD, *(votes.m or [_MOST_SPREAD]))
    if "aggregation" in votes.votes and not 2 <= votes.spread <= most:
        raise InputError(f"spread is {votes.spread}: a bucket is seen by 2 to {most} heads, of as many buckets each (--spread)")


def _public(data: ArrayDataModule) -> Split | InputError:
    """The public part, or why there is none."""
    try:
        return data.split("public")
    except InputError as error:
        return error


def _trusted(count: int, train: Split, public: Split | InputError, classes: int, seed: int) -> tuple[Split, Rows]:
    """Images whose labels are trusted, and the training rows that are left for the attacker."""
    source = public if isinstance(public, Split) else train
    if count and not classes <= count < len(source):
        where = "training images, not all of which can have been checked by hand" if source is train else "public images"
        raise InputError(
            f"trusted is {count}: at least one a class, {classes}, and fewer than {len(source)} {where}; 0 for none (--trusted)"
        )
    if isinstance(public, Split):
        return public.subset(np.arange(count)), np.arange(len(train))
    order = keyed_order(len(train), seed, 0)
    return train.subset(np.sort(order[:count])), np.sort(order[count:])


def _reference(data: ArrayDataModule, trust: Trusted, public: Split | InputError) -> Split:
    """As many images of every class as are asked for.

    Raises:
        InputError: If there is too little, or its images have other channels.
    """
    split = trust.reference.split("train") if trust.reference is not None else public
    assert isinstance(split, Split)
    classes = split.labels.unique()
    if len(classes) < 4 or split.images.shape[1] != data.image_shape[0]:
        raise InputError(
            f"the reference has {len(classes)} classes and {split.images.shape[1]} channels: at least 4 classes, and the "
            f"{data.image_shape[0]} channels of the data are needed (--reference)"
        )
    if trust.reference_rows is None:
        return split
    at_least("reference_rows", trust.reference_rows, 20 * len(classes))
    each = trust.reference_rows // len(classes)
    rows = torch.cat([(split.labels == label).nonzero()[:each, 0] for label in classes])
    return split.subset(rows.sort().values.numpy())


def _ingredients(
    task: AnyChangeTask, networks: list[Network], reference: Split, train: Split, trusted: Split, public: Split | InputError
) -> list[Ingredient]:
    trust, data = task.trust, task.received.data
    names = ", ".join(network.build for network in networks)
    if any(network.trained for network in networks):
        found = [Ingredient("networks", "unknown", f"nothing says which images the weights of {names} were trained on")]
    else:
        found = [Ingredient("networks", "fixed", f"{names} have weights of a seed alone")]
    if any(takes_statistics(network, data.image_shape[0]) for network in networks):
        found.append(Ingredient("normalization", data.statistics_origin, "per-channel statistics of the data set"))
    found.append(_compared("reference", reference, train))
    if len(trusted) and isinstance(public, Split):
        # All of the public part, from whose images it is seen how alike any two are.
        own = found[-1] if trust.reference is None and trust.reference_rows is None else _compared("", public, train)
        found.append(replace(own, name="trusted images"))
    elif len(trusted):
        told = f"{len(trusted)} images of the training split that the user says were checked by hand"
        found.append(Ingredient("trusted images", "vouched", told))
    if trust.reference is None:
        found.append(Ingredient("settings of votes", "fixed", "by rules that no label had a say in"))
    else:
        found.append(Ingredient("settings of votes", "trusted", "chosen on the reference, before looking at a received image"))
    return vouch(found, trust.vouch)


def _compared(name: str, images: Split, train: Split) -> Ingredient:
    """Whether images out of the attacker's reach are received ones, byte for byte or once more."""
    common = shared_rows(row_digests(train.images), row_digests(images.images))
    if common:
        told = f"{common} of its {len(images)} images are among those that an attacker may change"
        return Ingredient(name, "raw", told)
    copies = near_copies(images.images, train.images)
    if copies.suspicious:
        told = f"{len(copies)} of its {len(images)} images look like received ones: {copies.told()}"
        return Ingredient(name, "unknown", told)
    return Ingredient(name, "trusted", f"{len(images)} images, none of which is in the received set")
