#!/usr/bin/env bash
# Fetches the libraries of the page from npm, as assets/vendor/versions.txt pins them, and writes what the page needs of them beside their licences.
# Run it after changing a version there; the result is committed, so that neither building nor serving needs a network.
set -euo pipefail
cd "$(dirname "$0")/assets/vendor"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fetch PACKAGE@VERSION INTEGRITY: unpacks it to $work/package.
fetch() {
  local tarball
  tarball=$(cd "$work" && npm pack --silent "$1")
  local found
  found="sha512-$(openssl dgst -sha512 -binary "$work/$tarball" | base64 -w0)"
  [ "$found" = "$2" ] || { echo "vendor: $1 is $found, not $2" >&2; exit 1; }
  rm -rf "$work/package"
  tar -xzf "$work/$tarball" -C "$work"
}

# put FOLDER LICENCE: a folder of its own, with the licence.
put() { rm -rf "$1"; mkdir "$1"; cp "$work/package/$2" "$1/LICENSE"; }

# module FROM TO: without the address of a source map, which is not served.
module() { sed -e '/^\/\/# sourceMappingURL=/d' "$work/package/$1" >"$2"; }

while read -r package _licence integrity; do
  fetch "$package" "$integrity"
  case $package in
    preact@*)
      put preact LICENSE
      module dist/preact.mjs preact/preact.js
      # The page has no import map: one would be an inline script.
      module hooks/dist/hooks.mjs /dev/stdout | sed -e 's|from"preact"|from"./preact.js"|' >preact/hooks.js
      grep -q 'from"./preact.js"' preact/hooks.js
      ;;
    htm@*)
      put htm LICENSE
      module dist/htm.mjs htm/htm.js
      ;;
    uplot@*)
      put uplot LICENSE
      # The minified build is a script that sets `uPlot`; the last line makes it a module.
      { cat "$work/package/dist/uPlot.iife.min.js"; printf '\nexport default uPlot;\n'; } >uplot/uplot.js
      cp "$work/package/dist/uPlot.min.css" uplot/uplot.css
      ;;
    @dagrejs/dagre@*)
      put dagre LICENSE
      module dist/dagre.esm.js dagre/dagre.js
      ;;
    *)
      echo "vendor: what to take of $package is not said in vendor.sh" >&2
      exit 1
      ;;
  esac
done <versions.txt
