"""What every room stands on: errors, atomic files, leases, ranks, signals, progress."""
