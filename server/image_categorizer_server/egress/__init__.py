"""Outgoing HTTP on behalf of callers: image URIs and webhooks."""
