"""What can be promised about a vote of independently trained models: pure functions of counts, numpy in, numpy out.

Nothing here trains, reads files or knows torch. `docs/certificates.md` derives what the docstrings state.
"""

from certification.budgets import l2_norm, set_norm
from certification.confidence import VoteBounds, lower_bound, upper_bound, vote_bounds, votes_needed
from certification.joint import joint_lower, joint_upper, needed_probability
from certification.origins import Ingredient, Origin, void_reasons, vouch
from certification.partitions import bagging_poisons, partition_changes
from certification.planning import expected_certified, votes_to_certify
from certification.sampling import FixedSize, Poisson, Sampling
from certification.search import certified_share, largest_eps, largest_k, needed_grid
from certification.subsampled_set import subsampled_set_lower, subsampled_set_radius
from certification.whole_set import whole_set_lower, whole_set_radius

__all__ = [
    "FixedSize",
    "Ingredient",
    "Origin",
    "Poisson",
    "Sampling",
    "VoteBounds",
    "bagging_poisons",
    "certified_share",
    "expected_certified",
    "joint_lower",
    "joint_upper",
    "l2_norm",
    "largest_eps",
    "largest_k",
    "lower_bound",
    "needed_grid",
    "needed_probability",
    "partition_changes",
    "set_norm",
    "subsampled_set_lower",
    "subsampled_set_radius",
    "upper_bound",
    "void_reasons",
    "vote_bounds",
    "votes_needed",
    "votes_to_certify",
    "vouch",
    "whole_set_lower",
    "whole_set_radius",
]
