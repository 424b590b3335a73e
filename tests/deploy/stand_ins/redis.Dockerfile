FROM docker.io/library/debian:bookworm-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /data && chown redis /data
WORKDIR /data
USER redis
ENTRYPOINT ["/bin/bash", "-c", "exec \"$@\" --bind 0.0.0.0 --protected-mode no", "redis"]
