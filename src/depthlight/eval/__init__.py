"""Metrics, protocols and the runner that applies them."""
