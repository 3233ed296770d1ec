"""Names of the triggers that are a pattern added to the image; data/triggers.py makes the patterns."""

PATTERNS = ["fourpixel", "onepixel", "blending"]
