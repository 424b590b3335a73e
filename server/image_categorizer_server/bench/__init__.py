"""`image-categorizer bench`: the cost of serving, compared with the same work in one process.

    prepare.py   pictures and a model, the same on every machine
    raw.py       decoding, preprocessing and ONNX Runtime in a process of their own
    stage.py     starts what is measured: an installation and the raw process
    load.py      clients: gRPC, REST with JSON, REST with image bytes, a batch
    http2.py     a gRPC client that costs almost no CPU time
    run.py       alternating rounds, medians, the table

The clients run on the same cores as the server, as they would on a laptop. Their own CPU time
would count against the server, so they use as little as possible.
"""
