# cargo-deny checks licences, bans and sources (deny.toml).
deny_version=0.20.2
if [ "$("$cache/tools/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
  say "building cargo-deny $deny_version (about a minute)"
  cargo install --quiet --locked --debug --no-default-features --root "$cache/tools" --target-dir "$cache/tools/build" "cargo-deny@$deny_version"
  rm -rf "$cache/tools/build"
fi
cargo fetch --quiet --locked --manifest-path "$here/Cargo.toml"
