#!/usr/bin/env bash
# js.sh check|test: checks or tests the JavaScript SDK, clients/js, where Node.js and npm are.
set -euo pipefail
cd "$(dirname "$0")/../clients/js"

skip() {
  echo "The JavaScript SDK is not ${wanted}ed: $1."
  exit 0
}

. ../../tools/npm.sh
wanted=$1
node=$(node --version 2>/dev/null || true)
if ! [[ $node =~ ^v([0-9]+)\.([0-9]+) ]] || ((BASH_REMATCH[1] * 100 + BASH_REMATCH[2] < 2016)); then
  skip "it needs Node.js 20.16 or newer, this machine has ${node:-none}"
fi
command -v npm >/dev/null || skip "it needs npm, which this machine lacks"
install . || skip "npm reaches no registry"

case $wanted in
check)
  npm run --silent check
  npm run --silent build
  npm run --silent package
  ;;
test)
  # The other runtimes, for tests/e2e/test_javascript.py, come while the unit tests wait.
  (install runtimes || echo "npm reaches no registry: Node.js 24, Bun and Deno are not tested.") &
  runtimes=$!
  npm run --silent build
  npm run --silent test
  wait "$runtimes"
  ;;
*)
  echo "js.sh takes check or test" >&2
  exit 2
  ;;
esac
