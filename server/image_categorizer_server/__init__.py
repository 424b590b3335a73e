"""Image Categorizer's server: an asyncio gRPC server that sorts photographs into categories.

Floors, top to bottom; a module imports only floors below its own (`make check` sees to it):
cli · embedded → rpc → backend → catalog, admin → inference, db, cache, security → domain → errors,
settings.
"""
