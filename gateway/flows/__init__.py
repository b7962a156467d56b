"""The flows: one file each, which reads as a sentence; each step is one call on a stage's client."""
