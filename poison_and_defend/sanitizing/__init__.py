"""A defence over a whole set, on any number of processes."""
