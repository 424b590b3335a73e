"""Credentials, roles and signatures."""
