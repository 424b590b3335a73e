from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='ApiKeyRow',
            fields=[
                ('id', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=32)),
                ('tenant_id', fields.CharField(max_length=64)),
                ('name', fields.CharField(max_length=128)),
                ('role', fields.CharField(max_length=16)),
                ('prefix', fields.CharField(max_length=16)),
                ('secret_sha256', fields.CharField(unique=True, max_length=64)),
                ('create_time', fields.DatetimeField(auto_now=False, auto_now_add=True)),
                ('expire_time', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ('revoke_time', fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={'table': 'api_keys', 'app': 'models', 'indexes': [Index(fields=['tenant_id', 'create_time'])], 'pk_attr': 'id', 'table_description': 'An API key; the secret itself is not kept, only its SHA-256.'},
            bases=['Model'],
        ),
    ]
