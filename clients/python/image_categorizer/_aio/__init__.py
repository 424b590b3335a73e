"""The asyncio client, and the source of `_sync`.

tools/sync_twin.py translates each module into its twin, except `runtime`, `stream`, `tasks` and
`upload`: asyncio and threads differ there, so both sides are written by hand.
"""
