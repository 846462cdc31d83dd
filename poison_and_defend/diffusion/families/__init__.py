"""What the outputs of diffusion models mean, family by family."""
