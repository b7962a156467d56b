"""What networks are trained on: artwork, scenes composed of it, holes for edits, and the corpus."""
