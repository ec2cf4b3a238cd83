# The OpenTelemetry Collector's OTLP receiver (tools/otel-receiver), for the tests of traces. Sourced by setup.sh.
if [ "$what" = test ]; then
  command -v go >/dev/null || packages golang-go
  wanted=$(cat "$here"/tools/otel-receiver/{go.mod,go.sum,main.go} | sha256sum)
  if [ ! -x "$cache/tools/bin/otel-receiver" ] || [ "$(cat "$cache/tools/otel-receiver.made-from" 2>/dev/null)" != "$wanted" ]; then
    say "building the OpenTelemetry Collector's OTLP receiver from Go modules into $cache/tools/bin (about two minutes)"
    (cd "$here/tools/otel-receiver" && go build -trimpath -mod=readonly -o "$cache/tools/bin/otel-receiver" .)
    printf '%s' "$wanted" >"$cache/tools/otel-receiver.made-from"
  fi
fi
