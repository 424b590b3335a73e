"""The command `image-categorizer`, one file per subject."""

import os
import sys
import traceback

import typer

from image_categorizer_server.cli import (
    access,
    audit,
    batch,
    bench,
    calibrate,
    certificates,
    classify,
    encryption,
    evaluate,
    key,
    model,
    model_import,
    promotion,
    run,
    subject,
    tenant,
    usage,
    webhook,
)
from image_categorizer_server.cli.output import printable, say
from image_categorizer_server.errors import CategorizerError, OperatorError
from image_categorizer_server.version import VERSION

app = typer.Typer(
    help="Classify photographs. Start with `image-categorizer up`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (run.up, run.serve, run.migrate, run.worker, run.drained):
    app.command()(command)
app.command(hidden=True)(run.failpoints)
app.command("model-process", hidden=True)(run.model_process)
app.command("create-admin")(key.create_admin)
app.command()(classify.classify)
app.command()(evaluate.evaluate)
app.command()(bench.bench)
app.command()(usage.usage)
for change in (model_import.add, model_import.pull, model_import.quantize):
    model.app.command()(change)
model.app.command()(evaluate.compare)
model.app.command()(calibrate.calibrate)
model.app.command()(promotion.policy)
model.app.command()(promotion.check)
app.add_typer(model.app, name="models")
app.add_typer(batch.app, name="batch")
app.add_typer(webhook.app, name="webhooks")
app.add_typer(key.app, name="keys")
app.add_typer(subject.app, name="subjects")
app.add_typer(tenant.app, name="tenants")
app.add_typer(audit.app, name="audit")
app.add_typer(access.app, name="access")
app.add_typer(certificates.app, name="certificates")
app.add_typer(encryption.app, name="encryption")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    _version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version
    ),
) -> None:
    pass


def main() -> None:
    """Runs the command. Exit code 1 means that it failed, 2 that it was called incorrectly."""
    status = _run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        _discard_output()
        status = status or 1
    except OSError as error:
        _discard_output()
        say(f"Cannot write the output: {error.strerror}.")
        status = 1
    sys.exit(status)


def _run() -> int:
    """Returns the exit code of the command."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else bool(ended.code)
    except (OperatorError, CategorizerError) as error:
        say(str(error))
    except OSError as error:
        where = f": {printable(os.fsdecode(error.filename))}" if error.filename else ""
        say(f"Cannot go on: {error.strerror or error}{where}.")
    except Exception:  # noqa: BLE001 - nobody is above: the traceback is printed
        traceback.print_exc()
        say(
            f"This is a bug in image-categorizer {VERSION}. Please report it with the lines above "
            "and the command."
        )
    return 1


def _discard_output() -> None:
    """Keeps the interpreter from writing, and failing to write, what is left at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
