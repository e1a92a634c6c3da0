#!/bin/sh
# Proves that a clean Debian 12 with nothing but git is enough: unpacks a minimal one, clones what is
# committed here into it, and runs examples/demo.sh and tests/run.sh there.
#
#   tests/fresh.sh                    both
#   tests/fresh.sh demo               one of them: demo, tests
#
# Options: --root DIR    where to unpack (a temporary folder); with --keep it stays, and what was
#                        unpacked there before is used again
#          --keep
#          -- ARGUMENT...  to tests/run.sh
#
# Needs root, debootstrap and a mirror (DEBIAN_MIRROR, else deb.debian.org).
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org}
root=
keep=no
parts=
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2 && shift ;;
    --keep) keep=yes ;;
    --) shift && break ;;
    demo | tests) parts="$parts $1" ;;
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
[ -n "$parts" ] || parts='demo tests'
[ "$(id -u)" -eq 0 ] || { echo "$0: debootstrap needs root" >&2; exit 1; }
[ -n "$root" ] || root=$(mktemp -d /var/tmp/cfrealtime-fresh.XXXXXX)

mounts=
cleanup() {
  code=$?
  for mount in $mounts; do umount "$root/$mount" || true; done
  if [ "$keep" = no ]; then
    # Never across a mount that would not go.
    rm -rf --one-file-system "$root"
  fi
  exit $code
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ ! -x "$root/usr/bin/git" ]; then
  echo "== unpacking Debian 12 in $root"
  debootstrap --variant=minbase --include=git,ca-certificates bookworm "$root" "$mirror/debian" >/dev/null
  cat >"$root/etc/apt/sources.list" <<END
deb $mirror/debian bookworm main
deb $mirror/debian bookworm-updates main
deb $mirror/debian-security bookworm-security main
END
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/hosts "$root/etc/hosts"
for mount in proc dev/shm; do
  mkdir -p "$root/$mount"
  type=proc
  [ "$mount" = proc ] || type=tmpfs
  mount -t $type $type "$root/$mount"
  mounts="$mount $mounts"
done
rm -rf "$root/srv/cfrealtime"
git clone -q --no-hardlinks "$top" "$root/srv/cfrealtime"

# Of the caller's environment only what a network behind a proxy needs.
set -- "$@"
enter() {
  chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
    ${NODE_EXTRA_CA_CERTS:+NODE_EXTRA_CA_CERTS=/etc/cfrealtime-extra-ca.crt} \
    sh -c 'cd /srv/cfrealtime && exec "$@"' sh "$@"
}
[ -z "${NODE_EXTRA_CA_CERTS:-}" ] || cp "$NODE_EXTRA_CA_CERTS" "$root/etc/cfrealtime-extra-ca.crt"

for part in $parts; do
  echo "== $part, in a clean Debian 12"
  started=$(date +%s)
  case $part in
    demo)
      enter examples/demo.sh
      # A PNG file of some size; what it shows is for eyes.
      [ "$(head -c 4 "$root/srv/cfrealtime/demo.png" | tail -c 3)" = PNG ]
      ;;
    tests) enter tests/run.sh "$@" ;;
  esac
  echo "== $part: $(($(date +%s) - started)) s"
done
