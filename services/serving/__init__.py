"""What every stage's Ray Serve application shares.

Servicer methods, health, metrics, autoscaling. Imports Ray.
"""
