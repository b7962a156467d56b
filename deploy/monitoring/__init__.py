"""What operators see: dashboards as code, the stack under a Prometheus, and a mixed load."""
