"""Keys of key-management services: AWS KMS, Google Cloud KMS, Azure Key Vault, HashiCorp Vault."""
