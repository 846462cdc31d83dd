"""``python -m poison_and_defend``: the same as the console script."""

from poison_and_defend.cli.main import console

if __name__ == "__main__":
    console()
