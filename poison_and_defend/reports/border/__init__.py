"""The border between what a defence holds against and what it does not: success over noise, budget and poisons."""
