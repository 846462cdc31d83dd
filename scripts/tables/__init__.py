"""The tables of README.md and docs/results/, written from the committed records."""
