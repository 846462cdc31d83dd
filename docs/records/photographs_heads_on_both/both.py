"""Heads that are tuned on both: victims see each image as it was received or denoised, at random."""

from poison_and_defend.defenses import Diffusion, Rewriter


class AsReceived(Rewriter):
    """Images as they are."""

    name = "as_received"

    def __call__(self, images, keys, draws=None):
        """Leave them."""
        return images


class Both(Diffusion):
    """Two versions of each image, as received and denoised, of which every step takes one."""

    name = "both"
    label = "received and denoised"

    def __init__(self, sigma=None, denoiser=None, steps=None, seed=None, draw=None):
        super().__init__(sigma, denoiser, steps, seed, draw)
        self.given = {"sigma": sigma, "denoiser": denoiser, "steps": steps, "seed": seed, "draw": draw}
        self.draws = 2

    def version(self, number):
        """The first as received, the second denoised."""
        return super().version(0) if number else AsReceived()

    def settings(self):
        """Those of the noise, and that the images themselves are there, too."""
        return super().settings() | {"beside": "as received"}
