"""`image-categorizer up`: everything on one machine, from Python packages.

installation.py   what lies where below --data
parts.py          how each part starts, and when it is ready
gateway.py        Envoy's configuration, filled in
supervisor.py     starts, watches, restarts, stops, leaves no orphan
"""
