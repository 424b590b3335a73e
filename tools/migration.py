"""Writes the migration that `db/tables.py` asks for: `make migration NAME=add_labels`."""

import argparse
import asyncio

from image_categorizer_server.db.database import tortoise_config
from image_categorizer_server.settings.database import DatabaseSettings
from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector
from tortoise.migrations.writer import format_migration_name


async def write(name: str) -> list[str]:
    """Writes one migration, without a database; returns its files, none if nothing changed."""
    config = tortoise_config("postgres://nobody@localhost/none", DatabaseSettings())
    async with TortoiseContext() as context:
        await context.init(config=dict(config))
        assert context.apps is not None
        writers = await MigrationAutodetector(context.apps, config["apps"]).changes()
    for writer in writers:
        writer.name = format_migration_name(int(writer.name.split("_", 1)[0]), name)
    return [str(writer.write()) for writer in writers]


def main() -> None:
    """Writes the migration and prints its path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="what changes, in snake_case")
    print("\n".join(asyncio.run(write(parser.parse_args().name))) or "nothing changed")


if __name__ == "__main__":
    main()
