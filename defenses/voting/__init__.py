"""Votes: many models, each trained on a part of the set, and what their vote withstands."""
