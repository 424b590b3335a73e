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

import os

# gRPC's handlers of fork crash the child, before it becomes another program, if another thread
# calls into gRPC at that moment: 6 % of the children of a busy server.  We only start programs, for
# which the handlers do nothing.  Read when gRPC starts.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# A thread of OpenBLAS spins for tens of milliseconds after each product of matrices: a whole core
# where images are stored, each with one small product.  Read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
