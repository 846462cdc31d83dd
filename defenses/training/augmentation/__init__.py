"""Training recipes that mix, cut or choose images, augmentations that Borgnia et al. (2021) use against poisons."""
