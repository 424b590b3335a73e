#!/bin/sh
# Tests and measures a machine with a CUDA card, without internet:
#     [OUT=FOLDER] tests/gpu/run.sh [--device cpu …]       words are those of tests/gpu/measure.py
# Packages come from WHEELS (.build/wheels), which tests/gpu/wheels.sh has made elsewhere, or from
# .venv, if `make setup` has run.  Figures are in OUT (.build/gpu): gpu.md, gpu.json, profiles.
# The tests may take two minutes, the measurements eight; the figures are there if a test fails.
set -u
cd "$(dirname "$0")/../.."
out=${OUT:-.build/gpu}
wheels=${WHEELS:-.build/wheels}
mkdir -p "$out"
if [ -x .venv/bin/python ]; then
    python=$PWD/.venv/bin/python
else
    ${PYTHON:-python3} -m venv .build/gpu-venv || exit 1
    python=$PWD/.build/gpu-venv/bin/python
    "$python" -m pip install --quiet --no-index --find-links "$wheels" \
        'image-categorizer-server[embedded]' image-categorizer pytest pytest-asyncio pytest-timeout \
        httpx torchvision || exit 1
fi
timeout 120 "$python" -m pytest -q -p no:cacheprovider tests/gpu >"$out/tests.log" 2>&1
tests=$?
tail -n 15 "$out/tests.log"
timeout 480 "$python" -m tests.gpu.measure "$out" "$@"
measured=$?
[ "$tests" -eq 0 ] && [ "$measured" -eq 0 ]
