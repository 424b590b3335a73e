"""The workers of Image Categorizer: they run batches.

    Redis ── doorbell ──▶ listener ──▶ engine: claims chunks ──▶ chunk ──▶ streams ──▶ server
                                         ▲                        │
                                     PostgreSQL ◀── outcomes ─────┘

A worker holds no model, and nothing that is not stored elsewhere.  It may be killed at any moment.
"""
