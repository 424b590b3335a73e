"""What somebody with all rights may do to a chain of the tenant `t1`, and what `verify` says then.

Each takes the number of the last event, which a statement covers.
"""

SET_HEAD = """
UPDATE audit_heads SET seq = $1, hash = (SELECT hash FROM audit_events WHERE seq = $1)
"""


async def rewrite(connection, tenant: str = "t1") -> None:
    """Gives all events of a chain, as they are now, right numbers and hashes, and a right head."""
    await connection.execute(
        """
        CREATE TEMPORARY TABLE kept AS
            SELECT * FROM audit_events WHERE tenant_id = $1::text ORDER BY seq
        """.replace("$1::text", f"'{tenant}'")
    )
    await connection.execute("DELETE FROM audit_events WHERE tenant_id = $1", tenant)
    await connection.execute("DELETE FROM audit_heads WHERE tenant_id = $1", tenant)
    await connection.execute(
        "SELECT append_audit_events((SELECT jsonb_agg(to_jsonb(k) ORDER BY k.seq) FROM kept k))"
    )
    await connection.execute("DROP TABLE kept")


async def edit(connection, last):
    await connection.execute("UPDATE audit_events SET actor_id = 'k-2' WHERE seq = 7")


async def delete_inside(connection, last):
    await connection.execute("DELETE FROM audit_events WHERE seq = 7")


async def delete_tail(connection, last):
    await connection.execute("DELETE FROM audit_events WHERE seq > $1", last - 5)
    await connection.execute(SET_HEAD, last - 5)


async def swap(connection, last):
    for old, new in ((7, -7), (8, 7), (-7, 8)):
        await connection.execute("UPDATE audit_events SET seq = $2 WHERE seq = $1", old, new)


async def insert(connection, last):
    """Between two events, with right numbers for all that follow and a right hash of its own."""
    await connection.execute("UPDATE audit_events SET seq = -seq WHERE seq >= 7")
    await connection.execute("UPDATE audit_events SET seq = 1 - seq WHERE seq < 0")
    await connection.execute(
        """
        INSERT INTO audit_events SELECT (jsonb_populate_record(e, '{"seq": 7}')).*
        FROM audit_events e WHERE seq = 6
        """
    )
    await connection.execute(
        "UPDATE audit_events e SET prev_hash = (SELECT hash FROM audit_events WHERE seq = 6)"
        " WHERE seq = 7"
    )
    await connection.execute("UPDATE audit_events e SET hash = audit_hash(e) WHERE seq = 7")


async def rewrite_all(connection, last):
    await connection.execute("UPDATE audit_events SET actor_id = 'k-2' WHERE seq = 7")
    await rewrite(connection)


async def change_time(connection, last):
    await connection.execute(
        "UPDATE audit_events SET create_time = create_time - interval '1 microsecond' WHERE seq = 7"
    )


async def restore_older(connection, last):
    """A backup of the moment at which there were half as many; the statement came later."""
    await connection.execute("DELETE FROM audit_events WHERE seq > $1", last // 2)
    await connection.execute(SET_HEAD, last // 2)
    await connection.execute("DELETE FROM audit_statements")


async def erase(connection, last):
    for table in ("audit_events", "audit_heads", "audit_statements"):
        await connection.execute(f"DELETE FROM {table}")


FORGERIES = {
    edit: lambda last: ["event 7 was changed after it was written"],
    delete_inside: lambda last: ["event 7 is missing"],
    delete_tail: lambda last: [f"events {last - 4} to {last} are missing, of which the statement"],
    swap: lambda last: [
        "event 7 does not follow event 6",
        "event 7 was changed",
        "event 8 does not follow event 7",
        "event 8 was changed",
        "event 9 does not follow event 8",
    ],
    insert: lambda last: ["event 8 does not follow event 7", "event 8 was changed"],
    rewrite_all: lambda last: [f"event {last} is not the one that the statement of"],
    change_time: lambda last: ["event 7 was changed after it was written"],
    restore_older: lambda last: [f"events {last // 2 + 1} to {last} are missing, of which the"],
    erase: lambda last: [f"events 1 to {last} are missing, of which the statement of"],
}
