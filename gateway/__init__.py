"""The public face: stateless, gRPC alone, in front of the four stages. No torch and no Ray in it."""
