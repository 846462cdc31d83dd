"""What can be promised about a vote of independently trained models: pure functions of counts, numpy in, numpy out.

Nothing here trains, reads files or knows torch. `docs/explain/certificates.md` derives what the docstrings state.
"""

from poison_and_defend.certification.bagging import bagging_poisons
from poison_and_defend.certification.budgets import l2_norm, set_norm
from poison_and_defend.certification.confidence import (
    VoteBounds,
    lower_bound,
    majority_alpha,
    upper_bound,
    vote_bounds,
    votes_needed,
)
from poison_and_defend.certification.joint import joint_lower, joint_upper, needed_probability
from poison_and_defend.certification.membership import membership_lower
from poison_and_defend.certification.origins import Ingredient, Origin, void_reasons, vouch
from poison_and_defend.certification.sampling import FixedSize, Poisson, Sampling
from poison_and_defend.certification.search import (
    certified_by_pairs,
    certified_share,
    expected_certified,
    largest_eps,
    largest_k,
    needed_grid,
    votes_to_certify,
)
from poison_and_defend.certification.subsampled_set import subsampled_set_lower, subsampled_set_radius
from poison_and_defend.certification.whole_set import whole_set_lower, whole_set_radius, whole_set_upper

__all__ = [
    "FixedSize",
    "Ingredient",
    "Origin",
    "Poisson",
    "Sampling",
    "VoteBounds",
    "bagging_poisons",
    "certified_by_pairs",
    "certified_share",
    "expected_certified",
    "joint_lower",
    "joint_upper",
    "l2_norm",
    "largest_eps",
    "largest_k",
    "lower_bound",
    "majority_alpha",
    "membership_lower",
    "needed_grid",
    "needed_probability",
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
    "whole_set_upper",
]
