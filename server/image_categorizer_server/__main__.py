"""Runs the command `image-categorizer` by `python -m image_categorizer_server`."""

from image_categorizer_server.cli import main

main()
