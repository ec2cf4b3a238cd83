#!/bin/sh
# PostgreSQL as Debian has it. `postgres.sh serve DIR`; `postgres.sh check HOST` copies rows in and out and compares.
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
case $1 in
serve)
  dir=$2/postgres
  mkdir -p "$dir"
  # It refuses to run as root.
  as=
  if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$dir"
    as='setpriv --reuid=postgres --regid=postgres --clear-groups'
  fi
  cd /
  [ -e "$dir/PG_VERSION" ] || $as "$bin/initdb" --pgdata="$dir" --username=bank --auth=trust --no-sync --no-locale --encoding=UTF8 >/dev/null
  grep -qs 'all all all' "$dir/pg_hba.conf" || echo 'host all all all trust' | $as tee -a "$dir/pg_hba.conf" >/dev/null
  exec $as "$bin/postgres" -D "$dir" -c listen_addresses='*' -c fsync=off -c unix_socket_directories='' ;;
check)
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  sql() { "$bin/psql" --host="$2" --username=bank --dbname=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --command="$1"; }
  seq 1 200000 | awk '{ printf "%d\taccount-%d\t%d.%02d\n", $1, $1 * 7919 % 100003, $1 * 31, $1 % 100 }' >"$work/rows"
  sql 'DROP TABLE IF EXISTS entry; CREATE TABLE entry (id int PRIMARY KEY, account text, amount numeric)' "$2" 2>"$work/notice"
  sql 'COPY entry FROM STDIN' "$2" <"$work/rows"
  sql 'COPY (SELECT * FROM entry ORDER BY id) TO STDOUT' "$2" | cmp - "$work/rows"
  echo ok ;;
esac
