"""What is promised and attacked: budgets, setups, triggers, poison sets."""
