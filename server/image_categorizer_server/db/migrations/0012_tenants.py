from tortoise import migrations
from tortoise.migrations import operations as ops

# `limits` overrides limits of the settings for one tenant.
TABLE = """
CREATE TABLE tenants (
    tenant_id text PRIMARY KEY CHECK (tenant_id NOT IN ('', '*')),
    display_name text NOT NULL,
    state text NOT NULL,
    create_time timestamptz NOT NULL,
    delete_time timestamptz,
    limits jsonb NOT NULL DEFAULT '{}'
)
"""
INDEX = "CREATE INDEX tenants_inactive ON tenants (tenant_id, state) WHERE state <> 'ACTIVE'"
NAMED_IN = (
    "api_keys",
    "audit_events",
    "batch_uploads",
    "batches",
    "outbox",
    "webhook_deliveries",
    "webhooks",
)
FOUND = " UNION ".join(f"SELECT tenant_id FROM {table}" for table in NAMED_IN)
INSERT = f"""
INSERT INTO tenants (tenant_id, display_name, state, create_time)
SELECT tenant_id, '', 'ACTIVE', coalesce(
    (SELECT min(create_time) FROM audit_events e WHERE e.tenant_id = found.tenant_id), now())
FROM (SELECT 'default' AS tenant_id UNION {FOUND}) found
"""


class Migration(migrations.Migration):
    dependencies = [("models", "0011_result_warnings")]

    operations = [ops.RunSQL([TABLE, INDEX, INSERT], reverse_sql="DROP TABLE tenants")]
