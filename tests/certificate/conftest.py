from tests.small_experiments import digits

__all__ = ["digits"]
