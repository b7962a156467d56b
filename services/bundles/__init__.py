"""Loading model bundles: verified files, strict weights, and the device they run on."""
