"""The performance page: our server beside its peers, in one run.

peers/        small apps of LitServe, mosec and PyTriton, each in a virtual environment of its own
servers.py    starts ours and theirs, lets one run at a time
measure.py    rounds that take turns, medians, ratios of pairs
overload.py   arrivals that do not wait for answers
render.py     docs/performance.md and docs/performance.png
page.py       the command: `make bench-page`
"""
