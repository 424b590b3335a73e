from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.contrib.postgres.fields import ArrayField
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('models', '0012_tenants')]

    initial = False

    operations = [
        ops.AlterModelOptions(
            name='ApiKeyRow',
            options={'table': 'api_keys', 'app': 'models', 'indexes': [Index(fields=['tenant_id', 'create_time'])], 'pk_attr': 'id', 'table_description': 'An API key; of its secrets only the SHA-256 is kept.'},
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='allowed_addresses',
            field=ArrayField(db_default=[], element_type='TEXT'),
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='created_by',
            field=fields.TextField(db_default='', unique=False),
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='last_use_time',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='previous_secret_expire_time',
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='previous_secret_sha256',
            field=fields.CharField(null=True, unique=True, max_length=64),
        ),
        ops.AddField(
            model_name='ApiKeyRow',
            name='scopes',
            field=ArrayField(db_default=[], element_type='TEXT'),
        ),
    ]
