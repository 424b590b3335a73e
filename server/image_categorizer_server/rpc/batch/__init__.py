"""BatchService and its upload formats."""
