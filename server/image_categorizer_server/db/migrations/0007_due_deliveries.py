from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.indexes import PartialIndex

class Migration(migrations.Migration):
    dependencies = [('models', '0006_outbox_done')]

    initial = False

    operations = [
        ops.RemoveIndex(
            model_name='WebhookDeliveryRow',
            name=None,
            fields=['target'],
        ),
        ops.AddIndex(
            model_name='WebhookDeliveryRow',
            index=PartialIndex(fields=['target', 'next_attempt_time', 'id'], condition={'state': 'PENDING'}),
        ),
        ops.AddIndex(
            model_name='WebhookDeliveryRow',
            index=PartialIndex(fields=['target', 'attempt_count'], condition={'state': 'PENDING'}),
        ),
        ops.AddIndex(
            model_name='WebhookDeliveryRow',
            index=PartialIndex(fields=['target'], condition={'is_under_way': True}),
        ),
    ]
