"""The performance page: our server compared with other serving engines, in one run.

peers/        small apps of LitServe, mosec and PyTriton, each in its own virtual environment
servers.py    starts our server and its peers, and runs one at a time
measure.py    alternating rounds, medians, ratios within a round
overload.py   requests that arrive without waiting for answers
render.py     docs/performance.md and docs/performance.png
page.py       the command: `make bench-page`
"""
