"""The steps of an experiment: each takes the plan."""
