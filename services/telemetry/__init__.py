"""What stages tell of themselves: metrics through Ray, traces, logs."""
