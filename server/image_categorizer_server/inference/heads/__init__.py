"""What decides between a tenant's own categories, on the embeddings of a model."""
