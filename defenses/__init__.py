"""How a training set is protected before a model sees it."""
