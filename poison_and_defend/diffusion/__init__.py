"""A diffusion model as a denoiser."""
