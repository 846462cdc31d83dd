"""Countermeasures, one a file, in four kinds; an arm of a comparison is a chain of them."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.defenses":
    raise ImportError("this package is poison_and_defend.defenses: import that")

from poison_and_defend.defenses.arm import Arm, Chain
from poison_and_defend.defenses.base import Defense
from poison_and_defend.defenses.filters.activation_clustering import ActivationClustering
from poison_and_defend.defenses.filters.base import Filter, Received, Verdict, Workshop
from poison_and_defend.defenses.filters.characteristic_vectors import CharacteristicVectors
from poison_and_defend.defenses.filters.deep_knn import DeepKNN
from poison_and_defend.defenses.filters.perfect import PerfectFilter
from poison_and_defend.defenses.filters.random_filter import RandomFilter
from poison_and_defend.defenses.filters.spectral_signatures import SpectralSignatures
from poison_and_defend.defenses.filters.spectre import Spectre
from poison_and_defend.defenses.rewriters.ancestral import Ancestral
from poison_and_defend.defenses.rewriters.base import Rewriter
from poison_and_defend.defenses.rewriters.diffusion import DenoiseOnly, Diffusion, NoiseOnly
from poison_and_defend.defenses.rewriters.jpeg import Jpeg
from poison_and_defend.defenses.training.adversarial import Adversarial
from poison_and_defend.defenses.training.adversarial_poisoning import AdversarialPoisoning
from poison_and_defend.defenses.training.augmentation.cutmix import CutMix
from poison_and_defend.defenses.training.augmentation.cutout import Cutout
from poison_and_defend.defenses.training.augmentation.maxup import MaxUp
from poison_and_defend.defenses.training.augmentation.mixup import Mixup
from poison_and_defend.defenses.training.base import Plain, Training
from poison_and_defend.defenses.training.course import Epoch, Run, Step
from poison_and_defend.defenses.training.dp_sgd import DPSGD, GradientShaping
from poison_and_defend.defenses.training.epic import Epic
from poison_and_defend.defenses.training.friends import Friends
from poison_and_defend.defenses.voting.bagging import Bagging
from poison_and_defend.defenses.voting.base import Reading, Rows, Voting
from poison_and_defend.defenses.voting.finite_aggregation import FiniteAggregation
from poison_and_defend.defenses.voting.hybrid import Hybrid
from poison_and_defend.defenses.voting.kernel import Kernel
from poison_and_defend.defenses.voting.neighbours import Neighbours
from poison_and_defend.defenses.voting.partition import Partition
from poison_and_defend.defenses.voting.run_off import RunOff
from poison_and_defend.defenses.voting.trusted_only import TrustedOnly

__all__ = [
    "DPSGD",
    "ActivationClustering",
    "Adversarial",
    "AdversarialPoisoning",
    "Ancestral",
    "Arm",
    "Bagging",
    "Chain",
    "CharacteristicVectors",
    "CutMix",
    "Cutout",
    "DeepKNN",
    "Defense",
    "DenoiseOnly",
    "Diffusion",
    "Epic",
    "Epoch",
    "Filter",
    "FiniteAggregation",
    "Friends",
    "GradientShaping",
    "Hybrid",
    "Jpeg",
    "Kernel",
    "MaxUp",
    "Mixup",
    "Neighbours",
    "NoiseOnly",
    "Partition",
    "PerfectFilter",
    "Plain",
    "RandomFilter",
    "Reading",
    "Received",
    "Rewriter",
    "Rows",
    "Run",
    "RunOff",
    "SpectralSignatures",
    "Spectre",
    "Step",
    "Training",
    "TrustedOnly",
    "Verdict",
    "Voting",
    "Workshop",
]
