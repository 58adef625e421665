"""The procedural engine: stereo pairs with exact truth, deterministic by (seed, index), no downloads."""
