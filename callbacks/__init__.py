"""What is watched and logged while something trains."""
