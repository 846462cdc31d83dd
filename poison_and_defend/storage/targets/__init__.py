"""Where a sanitized set goes: a folder of images, an array, one .npz."""
