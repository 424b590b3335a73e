"""backup, restore: all that an installation keeps."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from image_categorizer_server.cli.connection import Data, act_as_user, with_database
from image_categorizer_server.cli.output import progress_of_steps, say
from image_categorizer_server.db.schema import migrate
from image_categorizer_server.local.installation import settings_for
from image_categorizer_server.services import backup as backups

SHOWN = 5


def backup(
    folder: Annotated[Path, typer.Argument(help="New folder for the backup.")],
    objects: Annotated[
        bool,
        typer.Option(
            "--objects", help="Copy the stored images, too. Without it, they are only listed."
        ),
    ] = False,
    data: Data = None,
) -> None:
    """Back up the database and the models, and list the stored images. Servers may run meanwhile.

    Keys that encrypt or sign, and the secret of subjects, are not in it: keep them elsewhere.
    """
    settings = settings_for(data)
    with progress_of_steps() as show:
        made = backups.back_up(settings, folder, show, objects=objects)
        summary = with_database(data, made)
    what = "objects" if objects else "objects, which are listed only"
    say(f"Backed up the database, the models and {summary.object_count} {what}: {folder}")


def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.", exists=True)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove what the database has.")
    ] = False,
    data: Data = None,
) -> None:
    """Restore a backup into an empty database, while no server or worker runs.

    Models and images that are missing are put back; those that are there stay. Who was erased after
    the backup is erased again.
    """
    settings = settings_for(data)
    act_as_user()
    with progress_of_steps() as show:
        summary = backups.read_summary(folder, show)
        asyncio.run(backups.restore_database(settings, folder, replace=replace))
        asyncio.run(migrate(settings.database_url, settings.database))
        asyncio.run(backups.restore_files(settings, folder, show))
        done = with_database(data, backups.finish_restore(settings, folder, summary))
    say(f"Restored the backup of {summary.create_time:%Y-%m-%d %H:%M} UTC.")
    if done.erasures:
        say(f"Subjects that were erased after it, and are erased again now: {done.erasures}.")
    if done.missing:
        shown = ", ".join(done.missing[:SHOWN])
        say(
            f"{len(done.missing)} objects of its list are not in the storage, because they were "
            f"deleted after it or are lost: {shown}{', …' if done.missing[SHOWN:] else ''}"
        )
    say("API keys that were revoked after it are valid again: revoke or rotate them.")
