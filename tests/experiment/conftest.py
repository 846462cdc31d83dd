from tests.small_experiments import digits, experiment, plan

__all__ = ["digits", "experiment", "plan"]
