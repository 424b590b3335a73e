from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.indexes import Index, PartialIndex

class Migration(migrations.Migration):
    dependencies = [('models', '0008_crashes')]

    initial = False

    operations = [
        ops.AlterModelOptions(
            name='ApiKeyRow',
            options={'table': 'api_keys', 'app': 'models', 'indexes': [Index(fields=['tenant_id', 'create_time'])], 'pk_attr': 'id', 'table_description': 'An API key; of its secret only the SHA-256 is kept.'},
        ),
        ops.AlterModelOptions(
            name='WebhookDeliveryRow',
            options={'table': 'webhook_deliveries', 'app': 'models', 'indexes': [PartialIndex(fields=['next_attempt_time'], condition={'state': 'PENDING'}), PartialIndex(fields=['target', 'next_attempt_time', 'id'], condition={'state': 'PENDING'}), PartialIndex(fields=['target', 'attempt_count'], condition={'state': 'PENDING'}), PartialIndex(fields=['target'], condition={'is_under_way': True}), Index(fields=['tenant_id', 'webhook_id', 'id']), Index(fields=['end_time'])], 'pk_attr': 'id', 'table_description': 'One message to one webhook, and the attempts to send it.'},
        ),
        ops.AlterModelOptions(
            name='WebhookRow',
            options={'table': 'webhooks', 'app': 'models', 'unique_together': (('tenant_id', 'webhook_id'),), 'pk_attr': 'id', 'table_description': 'An address that is notified when a batch ends, and the secrets that sign its messages.'},
        ),
    ]
