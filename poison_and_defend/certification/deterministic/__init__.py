"""Votes without chance: what they withstand is a count, true with certainty, and nothing is estimated."""

from poison_and_defend.certification.deterministic.neighbours import NeighbourVote, neighbour_vote, radius_poisons
from poison_and_defend.certification.deterministic.partitions import aggregation_poisons, partition_poisons
from poison_and_defend.certification.deterministic.run_off import Election, election, run_off

__all__ = [
    "Election",
    "NeighbourVote",
    "aggregation_poisons",
    "election",
    "neighbour_vote",
    "partition_poisons",
    "radius_poisons",
    "run_off",
]
