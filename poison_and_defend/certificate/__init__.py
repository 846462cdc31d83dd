"""Training voters, and saying what their vote withstands."""
