#!/usr/bin/env bash
# Is the build reproducible? Builds the client for browsers and the binary of the commit
# that is checked out, twice: in clones in folders with different names, each with a build
# cache of its own, and compares what came out byte by byte. Nothing of the machine may
# be in it. Takes minutes: nothing is cached.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT

build() { # build NAME
  local dir=$work/$1
  git clone -q --no-hardlinks "$source" "$dir"
  (
    cd "$dir"
    export GOCACHE=$work/cache-of-$1 CGO_ENABLED=0
    go run -C tools/wasm .
    go build -trimpath -ldflags="-s -w" -o bin/quoit ./cmd/quoit
    sha256sum bin/quoit web/dist/*.*
  )
  rm -rf "$work/cache-of-$1"
}

build a >"$work/first"
build a-folder-with-another-name >"$work/second"
cat "$work/first"
if ! diff "$work/first" "$work/second"; then
  echo "two builds of $(git rev-parse --short HEAD) differ: something of the machine, the folder or the time is in them" >&2
  exit 1
fi
echo "two builds of $(git rev-parse --short HEAD) are the same"
