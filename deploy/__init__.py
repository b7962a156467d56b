"""How unclip runs: the local stack, the Serve configs, and (later) images and charts."""
