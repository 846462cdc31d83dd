"""Data modules that poison, protect or cut another."""
