"""`python -m image_categorizer_server` is the command `image-categorizer`."""

from image_categorizer_server.cli import main

main()
