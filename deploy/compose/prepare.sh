#!/bin/sh
# Makes .env, with passwords that nobody else has. Keep it: the volumes know them.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
  echo ".env is there already." >&2
  exit 1
fi
umask 077
for name in OWNER_PASSWORD DATABASE_PASSWORD REDIS_PASSWORD STORAGE_PASSWORD GRAFANA_PASSWORD SUBJECT_SECRET; do
  echo "$name=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done >.env
echo "Made .env. Start with: docker-compose up -d"
