"""The client without asyncio.

`runtime`, `stream` and `upload` are written by hand; tools/sync_twin.py generates the rest from
`_aio`.
"""
