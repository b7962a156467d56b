"""How each network of the bundle is trained, one file a network."""
