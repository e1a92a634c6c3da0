#!/bin/sh
# Installs what the tests need, builds, runs the suites, and says as its last line
#   N passed, N failed, N skipped
# counted by test case. Exits 0 only if something passed and nothing failed.
#
#   tests/run.sh                   everything
#   tests/run.sh unit loop         these parts: unit element loop interop net docs browser; asan,
#                                  which is element and loop again under the address, leak and
#                                  undefined-behaviour sanitizers; tsan, under the thread sanitizer;
#                                  fuzz, a minute for each target; soak, five minutes of random
#                                  faults (CFREALTIME_SOAK_SECONDS, _SEED)
#
# Options: --no-install            trust that all packages are there
#          --build-dir DIR         instead of build/ (the sanitizers' is DIR-asan)
#          -DNAME=VALUE            to meson, e.g. -Dapi-schema=/path/of/the/openapi.yaml
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
build=$top/build
install=yes
parts=
meson_options=
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --build-dir)
      shift
      mkdir -p "$1"
      build=$(cd "$1" && pwd)
      ;;
    -D*) meson_options="$meson_options $1" ;;
    unit | element | loop | interop | net | docs | browser | asan | tsan | fuzz | soak) parts="$parts $1" ;;
    -h | --help)
      sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'
      exit 0
      ;;
    *)
      echo "$0: no part '$1'; see $0 --help" >&2
      exit 2
      ;;
  esac
  shift
done
[ -n "$parts" ] || parts='unit element loop interop net docs browser asan tsan fuzz soak'
wants() { case " $parts " in *" $1 "*) return 0 ;; esac; return 1; }

# Nothing of the caller's world: no registry, settings or secrets of theirs.
unset GST_PLUGIN_PATH GST_PLUGIN_PATH_1_0 GST_REGISTRY_1_0 GST_DEBUG GST_DEBUG_FILE MAKEFLAGS
unset CFREALTIME_APP_ID CFREALTIME_APP_SECRET CFREALTIME_API_URL CFREALTIME_TEST_SFU DISPLAY WAYLAND_DISPLAY
export LC_ALL=C.UTF-8 GIO_USE_PROXY_RESOLVER=dummy GSETTINGS_BACKEND=memory GIO_USE_VFS=local

if [ "$install" = yes ]; then
  groups=tests
  wants interop && groups="$groups interop"
  wants browser && groups="$groups browser"
  if wants fuzz || wants asan || wants tsan; then groups="$groups clang"; fi
  # shellcheck disable=SC2086
  "$here/packages.sh" $groups
fi

step() { printf '\n== %s\n' "$*"; }
started=$(date +%s)
failed_steps=0

# setup DIR OPTION...: configures and builds; the log is shown only when it fails.
nice=0
setup() {
  dir=$1
  shift
  step "building $(basename "$dir")"
  mkdir -p "$dir"
  if [ -f "$dir/build.ninja" ]; then
    # A native file is read once, when the directory is made.
    [ "${1:-}" != --native-file ] || shift 2
    set -- configure "$dir" -Dtests=enabled -Dlocal-sfu=enabled "$@"
  else
    set -- setup "$dir" "$top" -Dtests=enabled -Dlocal-sfu=enabled "$@"
  fi
  # shellcheck disable=SC2086 # words
  if ! nice -n "$nice" meson "$@" $meson_options >"$dir/configure.log" 2>&1; then
    cat "$dir/configure.log"
    return 1
  fi
  if ! nice -n "$nice" ninja -C "$dir" >"$dir/build.log" 2>&1; then
    cat "$dir/build.log"
    return 1
  fi
  grep -c 'warning:' "$dir/build.log" | sed 's/^0$//; s/$/ compiler warnings/; s/^ .*//' | grep . || true
  # The system's plugins are scanned once here, not by every test at once.
  GST_REGISTRY=$dir/registry.bin nice -n "$nice" gst-inspect-1.0 fakesink >/dev/null 2>&1 || true
}

# run DIR NAME SUITES MESON-ARGUMENT...
run() {
  dir=$1 name=$2 suites=$3
  shift 3
  step "$name"
  for suite in $suites; do
    set -- "$@" --suite "$suite"
  done
  # What passed and failed is read from the log.
  nice -n "$nice" meson test -C "$dir" --no-rebuild --logbase "$name" "$@" || true
  for log in "$dir/meson-logs/$name"*.json; do
    # A suite without a test has not been run.
    [ -s "$log" ] || failed_steps=$((failed_steps + 1))
  done
}

for dir in "$build" "$build-asan" "$build-tsan"; do
  rm -f "$dir"/meson-logs/run-*.json "$dir"/meson-logs/run-*.junit.xml
done
failed_step() { failed_steps=$((failed_steps + 1)); }

# What mostly waits runs in the background, and is shown when all has ended: the soak and the
# network's failures beside the sanitizers' builds, which take what those leave of the processors,
# and so does the fuzzing beside all that follows.
background=
beside() {
  suite=$1
  shift
  run "$build" "run-$suite" "$suite" "$@" >"$build/$suite.log" 2>&1 &
  background="$background $!:$suite"
}

built=no
for part in unit element loop interop net docs browser fuzz soak; do
  if wants $part; then
    if setup "$build" -Doptimization=0 -Ddebug=false -Db_ndebug=false; then built=yes; else failed_step; fi
    break
  fi
done
if [ $built = yes ]; then
  if wants soak; then beside soak; fi
  if wants net; then beside net --num-processes 4; fi
fi
asan=no tsan=no
nice=19
if wants asan; then
  if setup "$build-asan" --native-file "$here/support/asan.ini"; then asan=yes; else failed_step; fi
fi
if wants tsan; then
  if setup "$build-tsan" --native-file "$here/support/tsan.ini"; then tsan=yes; else failed_step; fi
fi
if [ $built = yes ] && wants fuzz; then beside fuzz; fi
nice=0
if [ $built = yes ]; then
  plain=
  for suite in unit element loop; do wants $suite && plain="$plain $suite"; done
  if wants interop; then
    if "$here/support/npm.sh" "$here/interop"; then plain="$plain interop"; else failed_step; fi
  fi
  [ -z "$plain" ] || run "$build" run-plain "$plain" --num-processes 5
  wants docs && run "$build" run-docs docs --num-processes 1
  if wants browser; then
    if "$here/support/npm.sh" "$here/browser"; then
      run "$build" run-browser browser --num-processes 1
    else
      failed_step
    fi
  fi
fi
[ $asan = no ] || run "$build-asan" run-asan 'element loop' --setup asan --num-processes 5
[ $tsan = no ] || run "$build-tsan" run-tsan 'element loop' --setup tsan --num-processes 5
for job in $background; do
  suite=${job#*:}
  wait "${job%%:*}" || true
  cat "$build/$suite.log"
  [ -s "$build/meson-logs/run-$suite.json" ] || failed_step
done

step "$(($(date +%s) - started)) s"
exec /usr/bin/python3 "$here/support/summary.py" --also-failed "$failed_steps" \
  "$build/meson-logs" "$build-asan/meson-logs" "$build-tsan/meson-logs"
