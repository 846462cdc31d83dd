"""What lies on disk and is read or written by many threads, processes and machines at once."""
