"""``python -m depthlight`` is the command line."""

from .cli.main import main

main()
