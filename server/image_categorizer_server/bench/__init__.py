"""`image-categorizer bench`: what serving costs, against the same work in one process.

    prepare.py   pictures and a model, the same on every machine
    raw.py       decode, preprocess and ONNX Runtime in one process of its own
    load.py      clients: gRPC, REST with JSON, REST with the bytes as they are
    stage.py     what is measured: an installation, the raw limit's process
    run.py       rounds that take turns, medians, the table

The clients run on the server's own cores, as they would on a laptop.
"""
