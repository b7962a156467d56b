"""The decoder stage.

From an image embedding to a picture, by diffusion at 64 px and an upsampler to 256 px.
"""
