"""Craft, protect, train, compare."""
