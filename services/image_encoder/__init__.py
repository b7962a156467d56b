"""The image encoder stage: CLIP's image tower."""
