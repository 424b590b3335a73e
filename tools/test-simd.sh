#!/usr/bin/env bash
# Runs the decoding tests with pillow-simd, in .venv-simd: tools/test-simd.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
venv=.venv-simd

if [ ! -e $venv/.installed ] || [ pyproject.toml -nt $venv/.installed ]; then
  "$python" -m venv $venv
  $venv/bin/python -m pip install --quiet --constraint constraints.txt --editable clients/python --editable '.[dev]'
  touch $venv/.installed
fi
tools/simd.sh $venv
$venv/bin/python -m pytest tests/unit/inference/test_decode.py tests/unit/inference/test_preprocess.py
