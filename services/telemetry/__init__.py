"""Logs and traces, of the gateway and of the stages."""
