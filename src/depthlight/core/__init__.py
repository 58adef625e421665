"""Words everyone shares: errors, configuration, the model registry and its cards, tolerances."""
