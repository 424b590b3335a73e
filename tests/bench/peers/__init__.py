"""Our own apps for other serving engines: what a user would write there, no more.

Each is a module of its engine's virtual environment (`make bench-peers`), which sees the packages
of ours after its own.  What is to be served comes by the environment: see `work.py`.
"""
