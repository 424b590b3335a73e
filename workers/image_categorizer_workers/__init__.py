"""Image Categorizer's workers: they carry batches from the store through the server to the results.

    Redis ─ bell ─▶ tasks.classify ─▶ engine: claims chunks ─▶ work: one chunk ─▶ feeds ─▶ server
                                         ▲                        │
                                   PostgreSQL ◀── outcomes ───────┘

A worker holds no model and nothing that is not written elsewhere: it may be killed at any moment.
"""
