"""Stereo networks, one file per family; :func:`build` makes one by its family name."""
