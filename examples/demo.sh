#!/usr/bin/env bash
# A picture with a running clock and a tone go from one GStreamer process to another through the
# local SFU. With a display the second process opens a window; without one it writes demo.png.
#
#   examples/demo.sh                 ten seconds, then a report of what was measured
#   examples/demo.sh --keep          the same, and goes on until Ctrl-C
#
# Options: --seconds N     how long to play (10)
#          --picture FILE  write the picture there, without a window (demo.png where there is no
#                          display)
#          --no-install    trust that all packages are there
#          --build-dir DIR instead of build/
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$top/build
seconds=10
picture=
keep=no
install=yes
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=$2 && shift ;;
    --picture) picture=$2 && shift ;;
    --build-dir) build=$(realpath -m "$2") && shift ;;
    --keep) keep=yes ;;
    --no-install) install=no ;;
    -h | --help)
      sed -n '2,/^set/p' "$0" | sed -n 's/^# \{0,1\}//p'
      exit 0
      ;;
    *)
      echo "$0: what is '$1'? See $0 --help" >&2
      exit 2
      ;;
  esac
  shift
done
if [ -z "$picture" ] && [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
  picture=demo.png
fi

work=$(mktemp -d)
pids=()
cleanup() {
  local code=$? pid
  trap '' INT TERM
  # The player first, then the publisher, the SFU last: each can still say goodbye to the next.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    pid=${pids[i]}
    kill -INT "$pid" 2>/dev/null || continue
    for _ in {1..50}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  printf '\n%s\n' "$1" >&2
  [ -z "${2:-}" ] || tail -n 30 "$2" | cut -d ' ' -f 2- >&2
  exit 1
}

# Puts the time in front of each line: what was measured is read from these.
stamped() {
  local line
  while IFS= read -r line; do
    printf '%s %s\n' "$EPOCHREALTIME" "$line"
  done
}

# start LOG COMMAND...: in the background; its pid goes to `pids` and $pid.
start() {
  local log=$1
  shift
  # Job control off, so Ctrl-C at the terminal would reach all at once: each gets its own session.
  setsid "$@" > >(stamped >"$log") 2>&1 </dev/null &
  pid=$!
  pids+=("$pid")
}

# first LOG PATTERN SECONDS PID: the time and text of the first line that matches (sed -E, group 1).
first() {
  local deadline=$((SECONDS + $3)) found
  while :; do
    found=$(sed -nE "s/^([0-9.]+) .*$2.*/\1 \2/p" "$1" 2>/dev/null | sed -n 1p)
    [ -z "$found" ] || break
    kill -0 "$4" 2>/dev/null || return 1
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.05
  done
  printf '%s\n' "$found"
}

minus() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a - b }'; }

# --- packages, build ------------------------------------------------------------------------------

[ "$install" = no ] || "$top/tests/packages.sh" demo
if ! { [ -f "$build/build.ninja" ] || meson setup "$build" "$top" -Dtests=disabled -Dlocal-sfu=enabled; } \
  >"$work/build.log" 2>&1 || ! ninja -C "$build" gst/libgstcfrealtime.so src/sfu/cfrealtime-sfu \
  >>"$work/build.log" 2>&1; then
  cat "$work/build.log" >&2
  fail 'The build failed.'
fi

# --- local SFU ------------------------------------------------------------------------------------

# Nothing of the caller's set-up, and a secret that lives as long as this demo and in no argv.
unset GST_PLUGIN_PATH_1_0 GST_REGISTRY_1_0
export GST_PLUGIN_PATH=$build/gst
export GST_REGISTRY=$build/demo-registry.bin
export CFREALTIME_APP_ID=demo
CFREALTIME_APP_SECRET=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export CFREALTIME_APP_SECRET

start "$work/sfu.log" "$build/src/sfu/cfrealtime-sfu" --port 0
sfu=$pid
found=$(first "$work/sfu.log" '(http:\/\/127\.0\.0\.1:[0-9]+)' 10 "$sfu") ||
  fail 'The local SFU did not start.' "$work/sfu.log"
sfu_url=${found#* }
export CFREALTIME_API_URL=$sfu_url/v1
# A first look at the plugins takes a while and is no part of what is measured.
gst-inspect-1.0 cfrealtimesink >/dev/null || fail 'GStreamer does not find the plugin.'

# --- publish --------------------------------------------------------------------------------------

# Where publisher and player meet.
stream=stream-url=$sfu_url/streams/demo
publish="gst-launch-1.0 -v cfrealtimesink name=s $stream \
videotestsrc is-live=true ! video/x-raw,width=1280,height=720,framerate=30/1 \
! timeoverlay halignment=center valignment=center shaded-background=true \
! clockoverlay halignment=right ! s.video_0 \
audiotestsrc is-live=true freq=440 volume=0.2 ! s.audio_0"
# shellcheck disable=SC2086 # the line holds words only
start "$work/publish.log" $publish
publisher=$pid
first "$work/publish.log" 'session-id = "?([0-9a-f]{32})' 20 "$publisher" >/dev/null ||
  fail 'The publisher got no session.' "$work/publish.log"

# --- play -----------------------------------------------------------------------------------------

play="gst-launch-1.0 -v -e cfrealtimesrc name=r $stream r. ! queue ! videoconvert"
if [ -n "$picture" ]; then
  play+=" ! tee name=t t. ! queue ! fpsdisplaysink text-overlay=false video-sink=fakesink"
  play+=" t. ! queue leaky=downstream max-size-buffers=1 ! videorate drop-only=true"
  play+=" ! video/x-raw,framerate=1/1 ! pngenc ! multifilesink location=$picture"
  play+=" r. ! queue ! audioconvert ! audioresample ! fakesink sync=true"
else
  play+=" ! fpsdisplaysink text-overlay=false"
  play+=" r. ! queue ! audioconvert ! audioresample ! autoaudiosink"
fi
[ -z "$picture" ] || rm -f "$picture"
began=$EPOCHREALTIME
# shellcheck disable=SC2086
start "$work/play.log" $play
player=$pid

cat <<END

The two lines that run now. They need this environment:

export GST_PLUGIN_PATH=$GST_PLUGIN_PATH GST_REGISTRY=$GST_REGISTRY
export CFREALTIME_API_URL=$CFREALTIME_API_URL CFREALTIME_APP_ID=$CFREALTIME_APP_ID
export CFREALTIME_APP_SECRET=$CFREALTIME_APP_SECRET

$publish

$play

END

sink='FPSDisplaySink.*\.GstPad:sink: caps = video\/x-raw.* width=\(int\)([0-9]+, height=\(int\)[0-9]+)'
found=$(first "$work/play.log" "$sink" 30 "$player") ||
  fail 'No picture came.' "$work/play.log"
to_first_frame=$(minus "${found%% *}" "$began")
resolution=$(printf '%s' "${found#* }" | sed 's/, height=(int)/x/')

# Bytes that the SFU has sent to the player so far.
sent() {
  python3 - "$sfu_url" <<'END'
import json, sys, urllib.request
with urllib.request.urlopen(sys.argv[1] + "/debug/stats") as reply:
    stats = json.load(reply)
print(sum(pull["bytes"] for session in stats["sessions"] for pull in session["pulls"]))
END
}

bytes_before=$(sent)
time_before=$EPOCHREALTIME
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
  kill -0 "$player" 2>/dev/null || fail 'The player ended early.' "$work/play.log"
  kill -0 "$publisher" 2>/dev/null || fail 'The publisher ended early.' "$work/publish.log"
  sleep 0.2
done
bitrate=$(awk -v bytes="$(($(sent) - bytes_before))" -v seconds="$(minus "$EPOCHREALTIME" "$time_before")" \
  'BEGIN { printf "%.0f", bytes * 8 / seconds / 1000 }')
fps=$(sed -nE 's/.*rendered: [0-9]+, dropped: [0-9]+.*average: ([0-9.]+).*/\1/p' "$work/play.log" | tail -n 1)
rendered=$(sed -nE 's/.*(rendered: [0-9]+, dropped: [0-9]+).*/\1/p' "$work/play.log" | tail -n 1)
codec() {
  sed -nE "s/.*media=\(string\)$1.*encoding-name=\(string\)([A-Za-z0-9-]+).*/\1/p" "$work/play.log" |
    head -n 1
}

if [ -n "$picture" ]; then
  # The player ends on its own terms, so that the file is whole.
  kill -INT "$player" 2>/dev/null || true
  for _ in {1..50}; do kill -0 "$player" 2>/dev/null || break; sleep 0.1; done
  [ -s "$picture" ] || fail "The player did not write $picture." "$work/play.log"
fi

cat <<END
Measured at the player:
  time to first frame   $to_first_frame s, from the start of its process to the decoded picture
  frames                ${fps:-?} a second on average (${rendered:-nothing rendered})
  resolution            $resolution
  codecs                $(codec video), $(codec audio)
  bitrate               $bitrate kbit/s, video and audio, as the SFU sent it
END
[ -z "$picture" ] || printf '  picture               %s, from the played stream\n' "$picture"
awk -v fps="${fps:-0}" 'BEGIN { exit !(fps >= 10) }' || fail 'Too few frames were shown.' "$work/play.log"

if [ "$keep" = yes ]; then
  echo
  echo 'Publisher and SFU go on until Ctrl-C.'
  while kill -0 "$publisher" 2>/dev/null; do sleep 0.5; done
  fail 'The publisher ended.' "$work/publish.log"
fi
