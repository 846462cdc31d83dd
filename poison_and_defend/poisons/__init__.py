"""Poisons on disk: ours, and the public benchmark's."""
