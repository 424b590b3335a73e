"""PostgreSQL, the source of truth: the only room that imports Tortoise and asyncpg.

`database.py` connects, `schema.py` migrates, `tables.py` describes the tables, `locks.py` the locks
and their order.  Each other file holds the queries of one subject.
"""
