#!/usr/bin/env bash
# Builds the container image by buildah alone: no engine, no daemon, no registry. Usage: tools/image.sh NAME:TAG
#
# Without BASE both stages start from an image made here, of Debian's Python and what it needs, by mmdebstrap.
#   BASE=IMAGE     start from this image instead
#   SUITE=trixie   Debian's release for the image made here; it is made once, `buildah rmi` makes it be made again
#   EXTRAS=sandbox extras of the package, separated by commas
#   CA_FILE=PEM    CA of the package index, where it is not a public one [default: PIP_CERT]
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:?usage: tools/image.sh NAME:TAG}
suite=${SUITE:-trixie}
base=${BASE:-localhost/credrotator-base:$suite}

need() {
  command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $1" >&2; exit 2; }
}

make_base() {
  local container
  need mmdebstrap
  root_fs=$(mktemp -d)
  trap 'rm -rf "$root_fs"' EXIT
  # `essential` is dpkg's minimum, without apt. The excluded files are read by people only.
  mmdebstrap --quiet --variant=essential --include=python3,python3-venv,ca-certificates,netbase,tzdata \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$root_fs/base.tar" \
    "deb http://deb.debian.org/debian $suite main" \
    "deb http://deb.debian.org/debian $suite-updates main" \
    "deb http://deb.debian.org/debian-security $suite-security main"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$root_fs/base.tar" / >/dev/null
  buildah commit --quiet --rm "$container" "$base" >/dev/null
}

need buildah
if [ -z "${BASE:-}" ] && ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  echo "making the base image from Debian $suite"
  make_base
fi

ca=${CA_FILE:-${PIP_CERT:-}}
buildah build --isolation chroot --format oci --layers \
  --build-arg "BASE=$base" --build-arg "EXTRAS=${EXTRAS:-}" \
  --build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' credrotator/__init__.py)" \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)" \
  ${ca:+--secret "id=ca,src=$ca"} \
  --tag "$tag" .
