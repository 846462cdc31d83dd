"""A set on disk, read and written by many threads, processes and machines at once."""
