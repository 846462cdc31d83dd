"""Activation clustering: Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", 2018."""

import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from poison_and_defend.core.errors import InputError
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop
from poison_and_defend.defenses.filters.per_class import rows_by_class

Rule = Literal["size", "silhouette", "exclusionary"]
Reduction = Literal["pca", "ica"]

_RULES = ("size", "silhouette", "exclusionary")
_REDUCTIONS = ("pca", "ica")
# Below this share of the largest variance a component is rounding, and must not be blown up to unit variance.
_RANK = 1e-9
_BATCH = 256


class ActivationClustering(Filter):
    """Algorithm 1 (arXiv:1811.03728): split each class in two in feature space, drop the smaller cluster where a rule says so.

    Features of a class are reduced to ten dimensions and split by 2-means. The smaller cluster is suspect by one of the
    paper's rules (its section 4.2): it has less than ``share`` of the class (size); the silhouette of the two clusters is above
    ``silhouette``; or a network that is trained on everything but it reads fewer of its rows as their label than as some one
    other class (exclusionary reclassification). Without a rule up to half of every class would go, as in some public code.

    A row's score is where it lies between the two centres, from -1 at that of the larger cluster to 1 at that of the smaller
    one, whatever the rule then says of the cluster. It is told nothing.

    Where it differs: the default is the principal components of the features; the paper prefers independent ones (``ica``),
    which are of unit variance, so that what poisons stand apart by is cut to the length of everything else. Share and
    silhouette are thresholds that the paper leaves to its user: .35 is that of common implementations, .15 is above what a
    class of one Gaussian shows (.10 for 100 rows in ten dimensions).

    Args:
        rule: What makes a cluster suspect: ``size``, ``silhouette``, or ``exclusionary``, which trains a network a class.
        share: Below which share of its class a cluster is suspect by its size, up to 0.5.
        silhouette: Above which mean silhouette of a class's two clusters the smaller one is suspect, between -1 and 1.
        dimensions: How many dimensions features are reduced to.
        reduction: By which components: principal ones (``pca``) or independent ones (``ica``).

    Raises:
        InputError: If a value is out of range.
    """

    name = "activation_clustering"
    color = "#3f8f8b"
    told_of = "nothing"

    def __init__(
        self,
        rule: Rule = "size",
        share: float = 0.35,
        silhouette: float = 0.15,
        dimensions: int = 10,
        reduction: Reduction = "pca",
    ) -> None:
        for option, value, known in (("rule", rule, _RULES), ("reduction", reduction, _REDUCTIONS)):
            if value not in known:
                raise InputError(f"{option} is {value!r}: choose {' or '.join(known)} (--arms.{self.name}.{option})")
        if not 0 < share <= 0.5:
            raise InputError(f"share is {share:g}: it is above 0 and at most 0.5 (--arms.{self.name}.share)")
        if not -1 <= silhouette <= 1:
            raise InputError(f"silhouette is {silhouette:g}: it is between -1 and 1 (--arms.{self.name}.silhouette)")
        if dimensions < 1:
            raise InputError(f"dimensions is {dimensions}: it is at least 1 (--arms.{self.name}.dimensions)")
        self.rule, self.share, self.silhouette = rule, share, silhouette
        self.dimensions, self.reduction = dimensions, reduction

    def judge(self, received: Received, workshop: Workshop) -> Verdict:
        """See :meth:`Filter.judge`."""
        features, scores = workshop.features().double().numpy(), torch.zeros(len(received), dtype=torch.float64)
        kept, clusters = torch.ones(len(received), dtype=torch.bool), []
        for rows in rows_by_class(received.labels):
            reduced = reduced_features(features[rows.numpy()], self.dimensions, self.reduction, received.seed)
            own = two_clusters(reduced, received.seed)
            if own is None:
                continue
            smaller, scores[rows] = own
            clusters.append(rows[smaller])
            if self._suspect(reduced, smaller):
                kept[rows[smaller]] = False
        if self.rule == "exclusionary":
            for rows in misread(received, workshop, clusters):
                kept[rows] = False
        return Verdict(kept, scores)

    def _suspect(self, reduced: NDArray[np.float64], smaller: Tensor) -> bool:
        """Whether a class's smaller cluster is, by a rule that needs no training."""
        if self.rule == "size":
            return int(smaller.sum()) < self.share * len(smaller)
        from sklearn.metrics import silhouette_score

        return self.rule == "silhouette" and float(silhouette_score(reduced, smaller.numpy())) > self.silhouette


def reduced_features(features: NDArray[np.float64], dimensions: int, reduction: str, seed: int) -> NDArray[np.float64]:
    """Components of one class's features that vary.

    Args:
        features: ``(n, F)`` float64.
        dimensions: How many components there are at most.
        reduction: ``pca`` or ``ica``; independent components are of unit variance.
        seed: Of the first guess at independent components.

    Returns:
        ``(n, d)`` float64, d at most ``dimensions``; 0 where all rows are the same.
    """
    from sklearn.decomposition import FastICA

    centred = features - features.mean(0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    rank = int((spread**2 > _RANK * max(spread[0] ** 2, np.finfo(np.float64).tiny)).sum())
    size = min(dimensions, rank)
    principal: NDArray[np.float64] = left[:, :size] * spread[:size]
    if reduction == "pca" or not size:
        return principal
    with warnings.catch_warnings():
        # That it has not converged is no error: the components are a rotation of the principal ones in any case.
        warnings.simplefilter("ignore")
        ica = FastICA(size, whiten="unit-variance", random_state=seed % 2**32, max_iter=1000)
        independent: NDArray[np.float64] = ica.fit_transform(principal)
    return independent


def two_clusters(rows: NDArray[np.float64], seed: int) -> tuple[Tensor, Tensor] | None:
    """2-means of one class's rows.

    Args:
        rows: ``(n, d)`` float64.
        seed: Of the first centres; the best of ten tries counts.

    Returns:
        Which rows are in the smaller cluster ``(n,)`` bool, the one of the later row where both have as many, and where each
        row lies between the centres ``(n,)`` float64, 1 at the smaller cluster's and -1 at the other; None where there are no
        two clusters, as fewer than three rows or rows that are all the same have none.
    """
    from sklearn.cluster import KMeans

    if len(rows) < 3 or rows.shape[1] == 0:
        return None
    means = KMeans(2, n_init=10, random_state=seed % 2**32).fit(rows)
    sizes = np.bincount(means.labels_, minlength=2)
    least = int(sizes.argmin()) if sizes[0] != sizes[1] else 1 - int(means.labels_[0])
    distances = np.linalg.norm(rows[:, None] - means.cluster_centers_, axis=2)
    place = (distances[:, 1 - least] - distances[:, least]) / distances.sum(1)
    return torch.from_numpy(means.labels_ == least), torch.from_numpy(place)


@torch.no_grad()
def misread(received: Received, workshop: Workshop, clusters: list[Tensor]) -> list[Tensor]:
    """The clusters that a network trained without them reads as another class (section 4.2, ExRe with a threshold of 1).

    Args:
        received: The set.
        workshop: Whose ``train`` makes a network for each cluster, all at once.
        clusters: Row numbers ``(m,)`` int64 of each, all of one class.

    Returns:
        Those of which fewer rows are read as their label than as the other class that most are read as.
    """
    rows = torch.arange(len(received))
    parts = [rows[~torch.isin(rows, own)] for own in clusters]
    found = []
    for own, network in zip(clusters, workshop.train(parts) if parts else [], strict=True):
        counts = torch.bincount(_read(network, received.images[own]), minlength=received.num_classes)
        label = int(received.labels[own[0]])
        others = torch.cat([counts[:label], counts[label + 1 :]])
        if int(counts[label]) < int(others.max()):
            found.append(own)
    return found


def _read(network: nn.Module, images: Tensor) -> Tensor:
    """Classes ``(n,)`` int64 that a network in evaluation mode reads images ``(n, C, H, W)`` uint8 as."""
    device = next(network.parameters()).device
    return torch.cat([network(batch.to(device).float() / 255).argmax(1).cpu() for batch in images.split(_BATCH)])
