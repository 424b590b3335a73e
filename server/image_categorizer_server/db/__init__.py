"""PostgreSQL, the truth: the only floor that knows Tortoise.

`database.py` opens and migrates; `rows.py` holds the tables; each further file the queries of one
subject.
"""
