"""Who else is at work: ranks, leases, signals to stop, Ctrl-C."""
