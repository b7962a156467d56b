"""The local stack: Ray Serve and the gateway on this machine, on loopback."""
