"""`image-categorizer up`: a whole installation on one machine, from Python packages.

up.py             starts and stops the installation
installation.py   the data folder, and how other commands find it
embedded.py       PostgreSQL, Redis and Envoy as managed processes
gateway.py        renders Envoy's configuration
connections.py    limits the connections of one address
processes.py      server and worker processes; `serve` and `worker` use it too
supervisor.py     starts, watches, restarts and stops processes
child.py          entry point of a process that ends with its parent
"""
