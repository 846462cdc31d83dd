from tests.small_experiments import digits, experiment

__all__ = ["digits", "experiment"]
