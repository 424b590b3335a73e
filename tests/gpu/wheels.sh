#!/bin/sh
# Collects all packages that tests/gpu/run.sh installs on a machine without internet:
#     tests/gpu/wheels.sh [FOLDER]        about 4 GB, most of it PyTorch with CUDA
# Run it where the internet is, with the Python version and the system of the machine with the GPU.
set -eu
cd "$(dirname "$0")/../.."
folder=${1:-.build/wheels}
mkdir -p "$folder"
python=${PYTHON:-python3}
# Ours as wheels too, so that nothing has to be built there.
"$python" -m pip wheel --wheel-dir "$folder" --constraint constraints.txt \
    ./clients/python '.[embedded]' hatchling 'pytest>=9.0' 'pytest-asyncio>=1.2' 'pytest-timeout>=2.4' \
    'httpx>=0.28' torchvision
echo "Carry $folder with the project, and run tests/gpu/run.sh there."
