"""`python -m image_categorizer_workers` is one worker process, set by the environment."""

import logging
import sys

import uvloop
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging

from image_categorizer_workers.main import work, work_alone
from image_categorizer_workers.quarantine import ALONE, die_with


def main() -> None:
    """Works; exits with 1 where that cannot begin."""
    is_alone = sys.argv[1:2] == [ALONE]
    try:
        if is_alone:
            die_with(int(sys.argv[2]))
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        logging.getLogger("arq").setLevel(logging.WARNING)  # two lines a ring
        uvloop.run(work_alone(settings) if is_alone else work(settings))
    except OperatorError as error:
        sys.exit(str(error))


main()
