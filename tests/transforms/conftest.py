from tests.tiny_denoisers import denoiser, folders, images, make_scheduler, make_unet, unet

__all__ = ["denoiser", "folders", "images", "make_scheduler", "make_unet", "unet"]
