"""CLIP's two towers and its tokenizer (arXiv 2103.00020), in the layout of open_clip's checkpoints."""
