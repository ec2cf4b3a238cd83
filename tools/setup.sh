#!/usr/bin/env bash
# Installs what a target needs, says what it installs, and does nothing the second time.
# usage: tools/setup.sh demo|test|bench
set -euo pipefail
what=${1:?usage: tools/setup.sh demo|test|bench}
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${SHEER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sheer}
mkdir -p "$cache/tools"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Debian packages that are not there yet, by the name of the package.
packages() {
  local missing=() p
  for p in "$@"; do dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p"); done
  [ ${#missing[@]} -eq 0 ] && return 0
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these Debian packages are missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}"
    sudo=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq || say "apt-get update failed; trying with the lists that are here"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

command -v cargo >/dev/null || die "Rust is missing: https://rustup.rs (version 1.95 or newer)"
command -v cc >/dev/null || packages gcc libc6-dev
packages iproute2 nftables

if [ "$what" = test ] || [ "$what" = bench ]; then
  for part in "$here"/tools/setup.d/*.sh; do
    # shellcheck source=/dev/null
    [ -e "$part" ] && . "$part"
  done
fi
