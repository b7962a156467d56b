"""What several tests put in the place of the real thing."""
