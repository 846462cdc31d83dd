"""Pictures and pages of certificates."""
