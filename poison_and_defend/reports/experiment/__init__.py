"""Pictures and pages of experiments."""
