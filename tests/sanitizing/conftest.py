from tests.tiny_denoisers import make_scheduler, make_unet

__all__ = ["make_scheduler", "make_unet"]
