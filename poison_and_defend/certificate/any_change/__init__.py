"""Certificates of *any change* without noise and without chance: votes on trusted features, counted."""
