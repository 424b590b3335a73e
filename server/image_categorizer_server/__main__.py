"""The entry point of the command `image-categorizer`, also by `python -m`.

Imports nothing at first: until the command line is imported, which takes a second, Ctrl-C ends the
process without a traceback.  Not so during the first 10 ms, in which Python itself starts, and runs
the script that pip has written: Ctrl-C then ends it with a traceback of Python's own.
"""

# `signal` is a shell around it, which takes as long to import as all that comes before it.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys


def main() -> None:
    """Runs the command."""
    usual = signal.getsignal(signal.SIGINT)
    if usual != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from image_categorizer_server.cli import main

    if sys.argv[1:2] != ["up"]:  # which has its own handler before it starts anything
        signal.signal(signal.SIGINT, usual)
    main()


if __name__ == "__main__":
    main()
