"""Image Categorizer's server: an asyncio gRPC server that classifies photographs.

Each folder is a room on one floor. A room imports only from floors below; import-linter checks it:

    cli
    local · bench
    rpc
    backend
    services
    inference · db · access · stores · egress
    domain
    settings
    paging · tasks
    errors · telemetry · clock · failpoints · version
"""
