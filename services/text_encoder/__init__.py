"""The text encoder stage: CLIP's text tower."""
