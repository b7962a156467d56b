"""What every stage's Ray Serve application shares: servicer methods, health, metrics, autoscaling. Imports Ray."""
