from tortoise import migrations
from tortoise.migrations import operations as ops

# RFC 8785, for what events hold: objects with ASCII names, texts, integers, booleans, null, lists.
# PostgreSQL escapes the characters of a text as the RFC does.
CANONICAL = """
CREATE FUNCTION audit_canonical(value jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN CASE jsonb_typeof(value)
    WHEN 'object' THEN (
        SELECT '{' || coalesce(string_agg(to_json(e.key)::text || ':' || CASE
            WHEN jsonb_typeof(e.value) IN ('object', 'array') THEN audit_canonical(e.value)
            ELSE e.value::text END, ',' ORDER BY e.key COLLATE "C"), '') || '}'
        FROM jsonb_each(value) e)
    WHEN 'array' THEN (
        SELECT '[' || coalesce(string_agg(audit_canonical(e.value), ',' ORDER BY e.number), '') || ']'
        FROM jsonb_array_elements(value) WITH ORDINALITY e (value, number))
    ELSE value::text END;
END $$
"""
EVENTS = """
CREATE TABLE audit_events (
    tenant_id text,
    seq bigint,
    create_time timestamptz NOT NULL,
    actor_id text NOT NULL,
    action text NOT NULL,
    resource text NOT NULL,
    outcome text NOT NULL,
    address text NOT NULL,
    request_id text NOT NULL,
    detail jsonb NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (tenant_id, seq)
)
"""
# The end of each chain, and what retention has removed of its beginning.
HEADS = """
CREATE TABLE audit_heads (
    tenant_id text PRIMARY KEY,
    seq bigint NOT NULL,
    hash text NOT NULL,
    removed_seq bigint NOT NULL,
    removed_hash text NOT NULL
)
"""
# The last statement about each head, until it is in the object store, and afterwards.
STATEMENTS = """
CREATE TABLE audit_statements (
    tenant_id text PRIMARY KEY,
    seq bigint NOT NULL,
    removed_seq bigint NOT NULL,
    object_key text NOT NULL,
    content text NOT NULL,
    is_stored boolean NOT NULL
)
"""
HASH = """
CREATE FUNCTION audit_hash(event audit_events) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(convert_to(audit_canonical(jsonb_build_object(
        'tenant_id', event.tenant_id, 'seq', event.seq,
        'time', to_char(event.create_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor_id', event.actor_id, 'action', event.action, 'resource', event.resource,
        'outcome', event.outcome, 'address', event.address, 'request_id', event.request_id,
        'detail', event.detail, 'prev_hash', event.prev_hash)), 'UTF8')), 'hex')
$$
"""
# Runs with the rights of the owner: the role of the application may neither insert an event by
# itself nor change a head.  The head stays locked until the transaction ends, so the numbers of a
# chain have no gaps.
APPEND = """
CREATE FUNCTION append_audit_events(events jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    given jsonb;
    event audit_events;
    head audit_heads;
BEGIN
    FOR given IN SELECT value FROM jsonb_array_elements(events) LOOP
        event := jsonb_populate_record(NULL::audit_events, given);
        IF head.tenant_id IS DISTINCT FROM event.tenant_id THEN
            SELECT * INTO head FROM audit_heads h WHERE h.tenant_id = event.tenant_id
            FOR NO KEY UPDATE;
            IF NOT FOUND THEN
                INSERT INTO audit_heads VALUES (event.tenant_id, 0, repeat('0', 64), 0, '')
                ON CONFLICT DO NOTHING;
                SELECT * INTO head FROM audit_heads h WHERE h.tenant_id = event.tenant_id
                FOR NO KEY UPDATE;
            END IF;
        END IF;
        event.seq := head.seq + 1;
        event.prev_hash := head.hash;
        event.hash := audit_hash(event);
        INSERT INTO audit_events SELECT event.*;
        UPDATE audit_heads h SET seq = event.seq, hash = event.hash
        WHERE h.tenant_id = event.tenant_id RETURNING * INTO head;
    END LOOP;
END $$
"""
# Retention.  Only what is older than thirty days, and never the end of a chain.
REMOVE = """
CREATE FUNCTION remove_audit_events(tenant text, up_to bigint, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    last audit_events;
    count integer;
BEGIN
    SELECT * INTO last FROM audit_events e WHERE e.tenant_id = tenant AND e.seq = up_to;
    IF FOUND THEN
        IF last.create_time > now() - interval '30 days' THEN
            RAISE EXCEPTION 'events of the audit are kept for 30 days at least'
                USING ERRCODE = 'insufficient_privilege';
        END IF;
        UPDATE audit_heads h SET removed_seq = up_to, removed_hash = last.hash
        WHERE h.tenant_id = tenant AND h.removed_seq < up_to AND h.seq > up_to;
    END IF;
    DELETE FROM audit_events e USING audit_heads h
    WHERE h.tenant_id = tenant AND e.tenant_id = tenant AND e.seq <= h.removed_seq
        AND e.seq IN (SELECT o.seq FROM audit_events o WHERE o.tenant_id = tenant
            ORDER BY o.seq LIMIT most);
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN count;
END $$
"""
# For our own mistakes, and for whoever gets at the credentials of the owner by way of SQL.
REFUSE_DELETE = """
CREATE FUNCTION refuse_audit_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM audit_heads h
            WHERE h.tenant_id = OLD.tenant_id AND h.removed_seq >= OLD.seq) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'DELETE of audit_events is refused: it is append-only'
        USING ERRCODE = 'insufficient_privilege';
END $$
"""
# Chains the events that there are, in the server: a table may hold millions.
CHAIN = """
DO $$
DECLARE
    old record;
    event audit_events;
BEGIN
    FOR old IN SELECT * FROM audit_events_unchained ORDER BY tenant_id, event_id LOOP
        IF event.tenant_id IS DISTINCT FROM old.tenant_id THEN
            event := NULL;
            event.tenant_id := old.tenant_id;
            event.seq := 0;
            event.hash := repeat('0', 64);
            event.outcome := 'OK';
            event.address := '';
        END IF;
        event.seq := event.seq + 1;
        event.create_time := old.create_time;
        event.actor_id := old.actor_key_id;
        event.action := old.action;
        event.resource := old.resource;
        event.request_id := old.request_id;
        event.detail := old.detail;
        event.prev_hash := event.hash;
        event.hash := audit_hash(event);
        INSERT INTO audit_events SELECT event.*;
    END LOOP;
END $$
"""
FILL_HEADS = """
INSERT INTO audit_heads
SELECT DISTINCT ON (tenant_id) tenant_id, seq, hash, 0, '' FROM audit_events
ORDER BY tenant_id, seq DESC
"""
FORWARD = [
    CANONICAL,
    "ALTER TABLE audit_events RENAME TO audit_events_unchained",
    "ALTER INDEX audit_events_pkey RENAME TO audit_events_unchained_pkey",
    EVENTS,
    HEADS,
    STATEMENTS,
    HASH,
    CHAIN,
    FILL_HEADS,
    "DROP TABLE audit_events_unchained",
    "CREATE INDEX audit_events_time ON audit_events (tenant_id, create_time)",
    APPEND,
    REMOVE,
    REFUSE_DELETE,
    """
    CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_delete()
    """,
    "REVOKE ALL ON FUNCTION append_audit_events(jsonb) FROM PUBLIC",
    "REVOKE ALL ON FUNCTION remove_audit_events(text, bigint, integer) FROM PUBLIC",
]


class Migration(migrations.Migration):
    dependencies = [("models", "0013_api_keys")]

    operations = [ops.RunSQL([statement.strip() for statement in FORWARD])]
