#!/bin/sh
# npm.sh FOLDER: puts the npm packages of FOLDER's lock file beside it, unless they are there.
set -eu
cd "$1"
cmp -s package-lock.json node_modules/installed && exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
cp package-lock.json node_modules/installed
