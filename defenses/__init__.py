"""How a training set is protected before a model sees it."""

# The same folder under two names would be two sets of classes that do not know each other.
if __name__ != "poison_and_defend.defenses":
    raise ImportError("this package is poison_and_defend.defenses: import that")
