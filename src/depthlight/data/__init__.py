"""Samples, readers, augmentation, mixing; the procedural engine in data/synth."""
