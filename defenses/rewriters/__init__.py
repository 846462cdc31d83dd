"""Rewriters: rows of a training set to what is trained on instead, each row by itself."""
