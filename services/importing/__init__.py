"""Published checkpoints, as ``diffusers`` stores them, to bundles."""
