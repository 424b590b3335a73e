#!/bin/sh
# Creates the virtual environments for `make bench-page`: one per serving engine, one for the plot.
# Each falls back to the packages of ours (torch, transformers, ONNX Runtime, numpy), so that all
# use the same versions and nothing large is installed twice.
#
#   tools/bench-peers.sh OUR_PYTHON FOLDER
#
# PyTriton needs a Python of the same version as ours with a shared libpython. Debian's Python has
# one, pyenv's does not. Set PYTRITON_PYTHON to choose it. If there is none, PyTriton is left out.
set -eu
ours=$1 folder=$2
requirements=$(dirname "$0")/../tests/bench/peers
packages=$("$ours" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$("$ours" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

make_one() {  # NAME PYTHON
    target=$folder/$1
    "$2" -m venv "$target"
    "$target/bin/python" -m pip install --quiet --disable-pip-version-check \
        --requirement "$requirements/requirements-$1.txt"
    echo "import site; site.addsitedir('$packages')" \
        >"$("$target/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_ours.pth"
    echo "$1: ready"
}

mkdir -p "$folder"
make_one litserve "$ours"
make_one mosec "$ours"
make_one plot "$ours"
pytriton_python=${PYTRITON_PYTHON:-/usr/bin/python3}
found=$("$pytriton_python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
if [ "$found" = "$version" ]; then
    make_one pytriton "$pytriton_python"
else
    echo "pytriton: left out, $pytriton_python is Python $found and ours is $version"
fi
