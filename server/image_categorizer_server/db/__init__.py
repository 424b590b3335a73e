"""PostgreSQL, the source of truth: the only room that imports Tortoise and asyncpg.

`engine.py` keeps connections, `database.py` runs queries on them, `schema.py` migrates, `tables.py`
describes the tables, `locks.py` the locks and their order.  Each other file holds the queries of
one subject.
"""
