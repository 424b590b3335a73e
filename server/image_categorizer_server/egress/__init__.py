"""Outgoing HTTP to hosts that users name: images by URI, and webhooks."""
