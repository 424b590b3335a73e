#!/usr/bin/env bash
# Makes a virtual environment decode with pillow-simd instead of Pillow: tools/simd.sh VENV
#
# Both own the package PIL, and whatever asks for pillow installs it over the other. So pillow-simd
# gets a folder of its own, VENV/simd, which comes before all others on Python's path. Pillow stays
# where it is, and pip may change it without harm. PLAIN_PILLOW=1 in the environment leaves the folder
# out, for comparisons. Without VENV/simd all is as before.
set -euo pipefail
venv=$1
folder=$venv/simd
locked=$(dirname "$0")/pillow-simd.txt

fail() {
  echo "$1" >&2
  exit 1
}

if [ -d "$folder" ]; then
  echo "pillow-simd is in $folder already. To build it again, delete that folder first."
  exit 0
fi
grep -qw avx2 /proc/cpuinfo 2>/dev/null || fail "pillow-simd needs Linux and a processor with AVX2."
command -v cc >/dev/null || fail "A C compiler is missing. On Debian: apt-get install gcc libc6-dev"
python_headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$python_headers/Python.h" ] || fail "Python's headers are missing. On Debian: apt-get install python3-dev"
# pillow-simd builds without a format whose headers are missing, and says nothing.
missing=()
for header in jpeglib.h zlib.h tiffio.h webp/decode.h; do
  echo "#include <stdio.h>
#include <$header>" | cc -fsyntax-only -xc - 2>/dev/null || missing+=("$header")
done
[ ${#missing[@]} -eq 0 ] || fail "Headers are missing: ${missing[*]}. \
On Debian: apt-get install libjpeg62-turbo-dev zlib1g-dev libtiff-dev libwebp-dev"

# Without pip's cache: it may hold a build without some format.
rm -rf "$folder.new"
pip=("$venv/bin/python" -m pip)
# The environment of a container image has no pip of its own.
"${pip[@]}" --version >/dev/null 2>&1 || pip=(python3 -m pip --python "$venv/bin/python")
CC="cc -mavx2" "${pip[@]}" install --quiet --no-cache-dir --no-deps \
  --no-binary pillow-simd --target "$folder.new" --require-hashes --requirement "$locked"
PYTHONPATH=$folder.new "$venv/bin/python" -c "
from PIL import Image, features, __version__
assert 'post' in __version__, f'this is Pillow {__version__}, not pillow-simd'
missing = [name for name in ('jpg', 'zlib', 'libtiff', 'webp') if not features.check(name)]
assert not missing, f'built without {missing}'
Image.new('RGB', (64, 64)).resize((9, 9), Image.Resampling.BICUBIC)
print('pillow-simd', __version__)"
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mv "$folder.new" "$folder"
echo "import os, sys; p = os.path.join(sys.prefix, 'simd'); \
os.environ.get('PLAIN_PILLOW') == '1' or not os.path.isdir(p) or sys.path.insert(0, p)" \
  >"$packages/aa_simd.pth"
