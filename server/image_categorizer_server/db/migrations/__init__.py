"""Migrations, in order; `make migration` writes the next one."""
