#!/usr/bin/env bash
# Builds pillow-simd in .venv-simd and runs the decoding tests there: tools/test-simd.sh [PYTHON]
#
# pillow and pillow-simd both own the package PIL, and whatever asks for pillow installs it over the other:
# so everything else comes first, then pillow goes, then pillow-simd comes alone.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
venv=.venv-simd

# pillow-simd builds without a format whose headers are missing, and says nothing.
missing=()
for header in jpeglib.h zlib.h tiffio.h webp/decode.h; do
  echo "#include <stdio.h>
#include <$header>" | cc -fsyntax-only -xc - 2>/dev/null || missing+=("$header")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "Headers are missing: ${missing[*]}. On Debian: apt-get install libjpeg62-turbo-dev zlib1g-dev libtiff-dev libwebp-dev" >&2
  exit 1
fi

if [ ! -e $venv/.installed ] || [ pyproject.toml -nt $venv/.installed ]; then
  "$python" -m venv $venv
  $venv/bin/python -m pip install --quiet --constraint constraints.txt --editable clients/python --editable '.[dev]'
  $venv/bin/python -m pip uninstall --quiet --yes pillow
  CC="cc -mavx2" $venv/bin/python -m pip install --quiet --no-deps --no-binary pillow-simd 'pillow-simd>=12.1'
  touch $venv/.installed
fi
$venv/bin/python -c "
from PIL import features, __version__
assert 'post' in __version__, f'this is Pillow {__version__}, not pillow-simd'
missing = [name for name in ('jpg', 'zlib', 'libtiff', 'webp') if not features.check(name)]
assert not missing, f'built without {missing}'
print('pillow-simd', __version__)"
$venv/bin/python -m pytest tests/unit/inference/test_decode.py tests/unit/inference/test_preprocess.py
