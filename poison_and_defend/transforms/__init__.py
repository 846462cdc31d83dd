"""The defence for other people's training scripts."""
