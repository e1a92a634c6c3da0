#!/bin/sh
# Installs the Debian 12 packages that a part of the project needs, and nothing when all are there:
#   tests/packages.sh build        what compiles and runs the plugin and the local SFU
#   tests/packages.sh demo         what examples/demo.sh needs
#   tests/packages.sh tests        what tests/run.sh needs
#   tests/packages.sh interop      what the interop suite needs
#   tests/packages.sh browser      what the browser suite needs
#   tests/packages.sh clang        what fuzzing and the sanitizers' builds need
# Names add up. With --list the names are printed instead. Uses sudo when not root; never asks.
set -eu

# A word "name:command" is satisfied by the command as well, wherever it comes from.
build='g++:g++ meson:meson ninja-build:ninja pkg-config:pkg-config
  libglib2.0-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  libgstreamer-plugins-bad1.0-dev libsoup-3.0-dev libjson-glib-dev libnice-dev
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice
  gstreamer1.0-x fonts-dejavu-core glib-networking ca-certificates'
# A window, a loudspeaker, and what reads the debug pages.
demo='gstreamer1.0-gl gstreamer1.0-alsa gstreamer1.0-pulseaudio python3:python3'
tests='libgtest-dev libgmock-dev python3 python3-jsonschema python3-yaml
  coturn:turnserver nftables:nft iproute2:ip util-linux'
interop='nodejs:node npm:npm'
browser="chromium $interop"
# Leaks are told by the names in their stacks, of which some are in debug files.
clang='clang libclang-rt-14-dev llvm libc6-dbg'

list=no
wanted=
for group in "$@"; do
  case $group in
    --list) list=yes ;;
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $build $demo" ;;
    tests) wanted="$wanted $build $tests" ;;
    interop) wanted="$wanted $interop" ;;
    browser) wanted="$wanted $browser" ;;
    clang) wanted="$wanted $clang" ;;
    *)
      echo "$0: no group '$group' (build, demo, tests, interop, browser, clang)" >&2
      exit 2
      ;;
  esac
done

installed() {
  case $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null || true) in
    *' installed') return 0 ;;
  esac
  return 1
}

missing=
names=
for word in $wanted; do
  package=${word%%:*}
  names="$names $package"
  installed "$package" && continue
  case $word in
    *:*) command -v "${word#*:}" >/dev/null 2>&1 && continue ;;
  esac
  missing="$missing $package"
done

if [ "$list" = yes ]; then
  printf '%s\n' "$names" | tr -s ' ' '\n' | sed '/^$/d' | sort -u
  exit 0
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
  echo "$0: apt-get is not here; install by hand:$missing" >&2
  exit 1
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null 2>&1; then
    echo "$0: neither root nor sudo; install by hand:$missing" >&2
    exit 1
  fi
  as_root='sudo -n'
  # A person may be asked for a password once; a machine is not.
  [ -t 0 ] && as_root=sudo
fi

echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  # shellcheck disable=SC2086 # as_root is two words or none
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null
}
# An old package list asks for versions that are gone, so it is renewed first. Without a network the
# list at hand, or the cache, may still do.
apt update || { echo "$0: apt-get update failed, going on with the lists at hand" >&2; }
# shellcheck disable=SC2086 # a list of names
if ! apt install --no-install-recommends $missing; then
  tail -n 40 "$log" >&2
  exit 1
fi
