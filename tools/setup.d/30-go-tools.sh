# What the tests of traces send to: the OpenTelemetry Collector's OTLP receiver and Jaeger, out of their own Go packages. Sourced by setup.sh.

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

# go_tool NAME WHAT TIME: tools/NAME under the cache, built again when it changes.
go_tool() {
  local from=$here/tools/$1 made=$cache/tools/$1.made-from wanted go
  wanted=$(cat "$from"/{go.mod,go.sum,main.go} | sha256sum)
  [ -x "$cache/tools/bin/$1" ] && [ "$(cat "$made" 2>/dev/null)" = "$wanted" ] && return 0
  go=$(go_for "$from")
  say "building $2 from Go modules into $cache/tools/bin (about $3)"
  mkdir -p "$cache/tools/bin"
  (cd "$from" && GOTOOLCHAIN=auto nice "$go" build -trimpath -ldflags "-s -w" -mod=readonly -o "$cache/tools/bin/$1" .)
  printf '%s' "$wanted" >"$made"
}

if [ "$what" = test ]; then
  go_tool otel-receiver "the OpenTelemetry Collector's OTLP receiver" "two minutes"
  go_tool jaeger "Jaeger's collector and query service" "two minutes"
fi
