"""Torch networks and the operations they share. Importing this package needs the ``torch`` extra."""
