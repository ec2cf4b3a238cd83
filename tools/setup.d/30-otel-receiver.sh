# The OpenTelemetry Collector's OTLP receiver (tools/otel-receiver), for the tests of traces. Sourced by setup.sh.

# go_for FOLDER: a Go that is new enough for the module there. From 1.21 on Go fetches what a module asks for by itself (GOTOOLCHAIN=auto); for an
# older one (Debian 12 has 1.19) it is fetched from the module proxy, which is where a newer one would have it from.
go_for() {
  command -v go >/dev/null || packages golang-go
  if [ -n "$(go env GOTOOLCHAIN)" ]; then
    echo go
    return
  fi
  local version name dir
  version=$(sed -n 's/^go //p' "$1/go.mod")
  name=golang.org/toolchain@v0.0.1-go$version.$(go env GOOS)-$(go env GOARCH)
  say "fetching Go $version as the module $name, as $(go version) is too old"
  # From a folder without a module: the old Go cannot read what the new one is for.
  dir=$(cd "$cache/tools" && GOFLAGS= go mod download -json "$name" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || die "the module proxy does not have $name: install Go $version or newer (https://go.dev/dl)"
  # A module's files are not executable.
  chmod u+x "$dir"/bin/* "$dir"/pkg/tool/*/* 2>/dev/null || true
  echo "$dir/bin/go"
}

if [ "$what" = test ]; then
  wanted=$(cat "$here"/tools/otel-receiver/{go.mod,go.sum,main.go} | sha256sum)
  if [ ! -x "$cache/tools/bin/otel-receiver" ] || [ "$(cat "$cache/tools/otel-receiver.made-from" 2>/dev/null)" != "$wanted" ]; then
    go=$(go_for "$here/tools/otel-receiver")
    say "building the OpenTelemetry Collector's OTLP receiver from Go modules into $cache/tools/bin (about two minutes)"
    mkdir -p "$cache/tools/bin"
    (cd "$here/tools/otel-receiver" && GOTOOLCHAIN=auto "$go" build -trimpath -mod=readonly -o "$cache/tools/bin/otel-receiver" .)
    printf '%s' "$wanted" >"$cache/tools/otel-receiver.made-from"
  fi
fi
