"""The prior stage: from a text to an image embedding, by diffusion."""
