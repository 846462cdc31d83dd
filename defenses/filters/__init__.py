"""Filters: a whole training set to the rows that stay, with a suspicion score for each."""
