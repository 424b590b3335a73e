FROM docker.io/library/python:3.11-slim-bookworm
COPY mc.py /mc.py
ENTRYPOINT ["python3", "/mc.py"]
