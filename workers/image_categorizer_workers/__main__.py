"""`python -m image_categorizer_workers` runs one worker process. The environment configures it."""

import logging
import sys

import uvloop
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.settings import load_settings
from image_categorizer_server.telemetry import configure_logging, get_log

from image_categorizer_workers.main import run_isolated_chunk, run_worker
from image_categorizer_workers.quarantine import ISOLATED, die_with_parent

log = get_log(__name__)


def main() -> None:
    """Runs the worker. Exits with status 1 if it cannot start, or if one of its tasks dies."""
    is_isolated = sys.argv[1:2] == [ISOLATED]
    try:
        if is_isolated:
            die_with_parent(int(sys.argv[2]))
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        logging.getLogger("arq").setLevel(logging.WARNING)  # it logs two lines for each job
        uvloop.run(run_isolated_chunk(settings) if is_isolated else run_worker(settings))
    except OperatorError as error:
        sys.exit(str(error))
    except Exception:
        log.exception("the worker ends because of an error")
        sys.exit(1)


main()
