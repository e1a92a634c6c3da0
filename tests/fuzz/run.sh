#!/bin/sh
# Fuzzes what comes from the network: each target for a while, two at a time; prints TAP.
#
#   tests/fuzz/run.sh [--seconds N] [--build-dir DIR] [TARGET...]
#
# Default: 60 s each, in build-fuzz/, all targets. Needs clang and its runtime (packages clang,
# libclang-rt-14-dev). What makes a target fail is kept as DIR/found-TARGET-*; once mended, put it into
# tests/fuzz/corpus/TARGET, which every build replays.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=$top/build-fuzz
seconds=60
targets=
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2 && shift ;;
    --build-dir) build=$2 && shift ;;
    -*)
      sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'
      exit 2
      ;;
    *) targets="$targets $1" ;;
  esac
  shift
done
[ -n "$targets" ] || targets='json stream sdp forwarder rtp_rewrite'

mkdir -p "$build"
if [ ! -f "$build/build.ninja" ]; then
  CC=clang CXX=clang++ meson setup "$build" "$top" -Dfuzz=true -Dtests=enabled -Dlocal-sfu=enabled \
    -Dexamples=disabled -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Ddebug=false \
    -Dunity=on -Dunity_size=16 -Dcpp_args='-g1 -fsanitize=fuzzer-no-link' >"$build/setup.log" 2>&1 || {
    cat "$build/setup.log"
    echo 'Bail out! no build directory'
    exit 1
  }
fi
programs=
for target in $targets; do programs="$programs tests/fuzz/fuzz_$target"; done
# shellcheck disable=SC2086 # a list of names
ninja -C "$build" $programs >"$build/fuzz-build.log" 2>&1 || {
  cat "$build/fuzz-build.log"
  echo 'Bail out! the targets do not build'
  exit 1
}

fuzz() {
  target=$1
  # What is learnt stays in the build directory.
  mkdir -p "$build/corpus-$target" "$here/corpus/$target"
  # Leaks of GStreamer's own are told by their whole stack, which takes time.
  unwind=1
  [ "$target" != rtp_rewrite ] || unwind=0
  G_SLICE=always-malloc UBSAN_OPTIONS=halt_on_error=1 \
    ASAN_OPTIONS=detect_leaks=1:fast_unwind_on_malloc=$unwind:intercept_tls_get_addr=0 \
    LSAN_OPTIONS=suppressions="$top/tests/support/lsan.supp":print_suppressions=0 \
    "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -timeout=60 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$build/found-$target-" \
    "$build/corpus-$target" "$here/corpus/$target" "$top/tests/fixtures" \
    >"$build/fuzz-$target.log" 2>&1 && echo ok >"$build/fuzz-$target.result" ||
    echo failed >"$build/fuzz-$target.result"
}

# shellcheck disable=SC2086 # words
set -- $targets
echo "1..$#"
number=0 failed=0
while [ $# -gt 0 ]; do
  first=$1 second=${2:-}
  shift
  fuzz "$first" &
  one=$!
  if [ -n "$second" ]; then
    shift
    fuzz "$second" &
    wait $!
  fi
  wait $one
  for target in $first $second; do
    number=$((number + 1))
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/fuzz-$target.log")
    if [ "$(cat "$build/fuzz-$target.result")" = ok ]; then
      echo "ok $number - $target, ${runs:-no} inputs in $seconds s"
    else
      failed=1
      tail -n 60 "$build/fuzz-$target.log" | sed 's/^/# /'
      echo "not ok $number - $target"
    fi
  done
done
exit $failed
