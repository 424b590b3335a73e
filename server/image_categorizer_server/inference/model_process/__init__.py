"""The model process: runs the models of all server processes of a machine, which own no GPU.

host.py      loads models for server processes, for as long as they are connected
merging.py   merges the micro-batches that wait for one model
"""
