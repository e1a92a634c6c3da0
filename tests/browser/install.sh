#!/bin/sh
# Puts playwright-core beside this script, from the lock file. It brings no browser: the suite drives
# Debian's Chromium.
set -eu
cd "$(dirname "$0")"
wanted=$(sed -n 's/.*"playwright-core": "\(.*\)".*/\1/p' package.json)
have=$(sed -n 's/.*"version": "\(.*\)".*/\1/p' node_modules/playwright-core/package.json 2>/dev/null |
  head -n 1 || true)
[ "$wanted" != "$have" ] || exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
