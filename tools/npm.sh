#!/usr/bin/env bash
# For js.sh and dashboard.sh, which read it.

# Installs what package-lock.json names, unless that is done.
install() {
  if [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then return; fi
  local log
  log=$(mktemp)
  if npm ci --prefix "$1" --no-audit --no-fund --loglevel=error >"$log" 2>&1; then return; fi
  if grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT' "$log"; then return 1; fi
  cat "$log" >&2
  exit 1
}
