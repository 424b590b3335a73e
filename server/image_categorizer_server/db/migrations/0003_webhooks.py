from tortoise import migrations
from tortoise.migrations import operations as ops
import functools
from json import dumps, loads
from tortoise import fields
from tortoise.indexes import Index, PartialIndex

class Migration(migrations.Migration):
    dependencies = [('models', '0002_batches')]

    initial = False

    operations = [
        ops.CreateModel(
            name='WebhookDeliveryRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('delivery_id', fields.CharField(unique=True, max_length=40)),
                ('tenant_id', fields.CharField(max_length=64)),
                ('webhook_id', fields.CharField(max_length=40)),
                ('target', fields.CharField(max_length=40)),
                ('url', fields.TextField(unique=False)),
                ('event_type', fields.CharField(max_length=32)),
                ('batch_id', fields.CharField(max_length=64)),
                ('body', fields.TextField(unique=False)),
                ('state', fields.CharField(max_length=16)),
                ('is_under_way', fields.BooleanField()),
                ('next_attempt_time', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('lease_token', fields.BigIntField()),
                ('attempt_count', fields.IntField()),
                ('attempts', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('create_time', fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ('end_time', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'webhook_deliveries', 'app': 'models', 'indexes': [PartialIndex(fields=['next_attempt_time'], condition={'state': 'PENDING'}), PartialIndex(fields=['target'], condition={'state': 'PENDING'}), Index(fields=['tenant_id', 'webhook_id', 'id']), Index(fields=['end_time'])], 'pk_attr': 'id', 'table_description': 'One message to one webhook, and the attempts at it.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='WebhookRow',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('tenant_id', fields.CharField(max_length=64)),
                ('webhook_id', fields.CharField(max_length=40)),
                ('url', fields.TextField(unique=False)),
                ('state', fields.CharField(max_length=16)),
                ('secret', fields.CharField(max_length=128)),
                ('previous_secret', fields.CharField(null=True, max_length=128)),
                ('previous_secret_expire_time', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('create_time', fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'webhooks', 'app': 'models', 'unique_together': (('tenant_id', 'webhook_id'),), 'pk_attr': 'id', 'table_description': 'An address that is told when a batch ends, and what its messages are signed with.'},
            bases=['Model'],
        ),
    ]
