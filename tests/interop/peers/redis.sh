#!/bin/sh
# Redis as Debian has it. `redis.sh serve`; `redis.sh check HOST` writes, reads back and compares.
set -eu
case $1 in
serve) exec redis-server --port 6379 --bind '*' -::* --protected-mode no --save '' --appendonly no ;;
check)
  host=$2 work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  seq 1 20000 | awk '{ printf "SET key:%d value-%d-%d\r\n", $1, $1, $1 * 7919 }' | redis-cli -h "$host" --pipe | grep -q 'errors: 0, replies: 20000'
  seq 1 20000 | awk '{ printf "GET key:%d\n", $1 }' | redis-cli -h "$host" >"$work/got"
  seq 1 20000 | awk '{ printf "value-%d-%d\n", $1, $1 * 7919 }' >"$work/wanted"
  cmp "$work/got" "$work/wanted"
  head -c 8388608 /dev/urandom >"$work/blob"
  redis-cli -h "$host" -x SET blob <"$work/blob" | grep -qx OK
  # `--raw` ends what it prints with a newline.
  redis-cli -h "$host" --raw GET blob | head -c 8388608 | cmp - "$work/blob"
  [ "$(redis-cli -h "$host" DBSIZE)" = 20001 ]
  redis-cli -h "$host" FLUSHALL >"$work/flushed"
  echo ok ;;
esac
