"""Apps for other serving engines, as a user would write them.

Each runs in the virtual environment of its engine (`make bench-peers`), which falls back to the
packages of ours. Environment variables say what to serve: see `work.py`.
"""
