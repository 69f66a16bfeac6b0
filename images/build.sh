#!/bin/sh
# Builds the images with docker or buildah, whichever is there, and prints their names and sizes:
#
#   images/build.sh [service] [executor]      both, when none is named
#
#   BUILDER     docker or buildah                                          [docker if its engine answers, or buildah]
#   BASE        image to build on: Python >= 3.11 with pip and venv        [python:3.13-slim-bookworm]
#   REPOSITORY  what stands before /service and /executor                  [code-interpreter]
#   TAG         what stands after them                                     [the version in pyproject.toml]
#   CA          file of certificate authorities, where pip's index, or what stands before it, has one of its own
#   BUILD_ARGS  more options for `docker build` or `buildah build`, by space
#
# Where buildah is not root or is in a container itself: STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- service executor

choose() {
    if docker version >/dev/null 2>&1; then echo docker # the command alone, without an engine, builds nothing
    elif command -v buildah >/dev/null; then echo buildah
    else echo "Neither an engine answers docker, nor is there a buildah. On Debian: apt-get install buildah" >&2; exit 1
    fi
}

build() { # build NAME DOCKERFILE
    # shellcheck disable=SC2086 # the words of BUILD_ARGS are options
    case $BUILDER in
    docker) DOCKER_BUILDKIT=1 docker build --quiet ${BASE:+--build-arg BASE="$BASE"} ${CA:+--secret id=ca,src="$CA"} \
        --build-arg VERSION="$VERSION" ${BUILD_ARGS:-} --tag "$1" --file "$2" . >/dev/null ;;
    # --layers: a step whose inputs are the same is not done again, as with docker.
    buildah) buildah build --quiet --layers --format oci ${BASE:+--build-arg BASE="$BASE"} ${CA:+--secret id=ca,src="$CA"} \
        --build-arg VERSION="$VERSION" ${BUILD_ARGS:-} --tag "$1" --file "$2" . >/dev/null ;;
    *) echo "BUILDER is $BUILDER; it may be docker or buildah" >&2; exit 1 ;;
    esac
}

size() {
    case $BUILDER in
    docker) docker image inspect --format '{{.Size}}' "$1" | awk '{printf "%.0f MB\n", $1 / 1e6}' ;;
    buildah) buildah images --format '{{.Size}}' "$1" | sed q ;; # a line for each name that the image has
    esac
}

BUILDER=${BUILDER:-$(choose)}
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
TAG=${TAG:-$VERSION}
for image in "$@"; do
    case $image in
    service) file=Dockerfile ;;
    executor) file=sandbox-runtime/Dockerfile ;;
    *) echo "There is no image $image; there are service and executor." >&2; exit 2 ;;
    esac
    name=${REPOSITORY:-code-interpreter}/$image:$TAG
    build "$name" "$file"
    echo "$name $(size "$name")"
done
