FROM docker.io/library/python:3.11-slim-bookworm
RUN pip install --quiet --no-cache-dir 'moto[s3,server]>=5.1' 'flask-cors>=6.0'
# MinIO's words, `server /data`, mean nothing to it.
ENTRYPOINT ["/bin/sh", "-c", "exec moto_server -H 0.0.0.0 -p 9000"]
