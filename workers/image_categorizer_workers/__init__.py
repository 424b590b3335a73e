"""Image Categorizer's workers: they will carry batches from object storage through the server."""
