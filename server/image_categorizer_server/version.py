"""The release this code belongs to."""

from importlib.metadata import version

VERSION = version("image-categorizer-server")
