# Peers for the interop tests and the benchmark: Debian's tools, a Python environment, Node modules. Sourced by setup.sh.

# venv NAME REQUIREMENTS: a Python environment under the cache, made again when its requirements change.
venv() {
  local dir=$cache/$1 wanted
  wanted=$(sha256sum <"$2")
  [ "$(cat "$dir/.made-from" 2>/dev/null)" = "$wanted" ] && return 0
  say "making the Python environment $dir from ${2#"$here"/}"
  rm -rf "$dir"
  python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2
  printf '%s' "$wanted" >"$dir/.made-from"
}

# node_modules NAME FOLDER: the modules of a lockfile under the cache.
node_modules() {
  local dir=$cache/$1 wanted
  wanted=$(sha256sum <"$2/package-lock.json")
  [ "$(cat "$dir/.made-from" 2>/dev/null)" = "$wanted" ] && return 0
  say "installing the Node modules of ${2#"$here"/}/package-lock.json into $dir"
  rm -rf "$dir"
  mkdir -p "$dir"
  cp "$2/package.json" "$2/package-lock.json" "$dir/"
  (cd "$dir" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2)
  printf '%s' "$wanted" >"$dir/.made-from"
}

packages python3 python3-venv openssl nghttp2-client nghttp2-server
if [ "$what" = test ]; then
  packages curl redis-server postgresql tshark prometheus uidmap procps
  command -v node >/dev/null || packages nodejs
  command -v npm >/dev/null || packages npm
  venv interop-python "$here/tests/interop/requirements.txt"
  node_modules interop-node "$here/tests/interop"
fi
if [ "$what" = bench ]; then
  packages nghttp2-proxy
  venv bench-python "$here/bench/requirements.txt"
fi
