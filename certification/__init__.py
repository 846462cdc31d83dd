"""What can be promised about a vote of independently trained models: pure functions of counts, numpy in, numpy out.

Nothing here trains, reads files or knows torch. `docs/certificates.md` derives what the docstrings state.
"""

from certification.budgets import l2_norm, set_norm
from certification.confidence import VoteBounds, lower_bound, upper_bound, vote_bounds, votes_needed
from certification.joint import joint_lower, joint_upper, needed_probability
from certification.partitions import bagging_poisons, partition_changes
from certification.sampling import FixedSize, Poisson, Sampling
from certification.search import largest_eps, largest_k
from certification.whole_set import whole_set_lower, whole_set_radius

__all__ = [
    "FixedSize",
    "Poisson",
    "Sampling",
    "VoteBounds",
    "bagging_poisons",
    "joint_lower",
    "joint_upper",
    "l2_norm",
    "largest_eps",
    "largest_k",
    "lower_bound",
    "needed_probability",
    "partition_changes",
    "set_norm",
    "upper_bound",
    "vote_bounds",
    "votes_needed",
    "whole_set_lower",
    "whole_set_radius",
]
