"""Micro-batching: queues, admission, micro-batches and the isolation of failures."""
