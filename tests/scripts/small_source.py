"""A small source to plant faults in."""

SOURCE = '''"""A docstring of 3 words."""


def covered(x: int, limit: float = 2.0) -> int:
    """Of 4 words."""
    if x < 10 and not x == 3:
        return -x + 1
    raise ValueError(f"{x + 5} is too much")


def unasserted(x: int) -> int:
    return x * 7


def unreached(x: int) -> int:
    return x - 20


def counted(x: int) -> int:
    while x > 0:
        x -= 1
    return x
'''
