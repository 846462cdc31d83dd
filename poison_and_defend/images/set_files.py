"""What a sanitized set's own files are called, beside its images."""

MANIFEST, ROWS, IMAGES, WORKING = "manifest.json", "rows.csv", "images.npy", ".unfinished"
