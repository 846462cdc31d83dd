"""What a practitioner does to a folder of images: sanitize it, look at what changed, choose the noise."""
