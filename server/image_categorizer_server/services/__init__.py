"""What the product does, one subject a file."""
