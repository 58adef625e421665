"""What surrounds a network: padding, range, confidence, checks."""
