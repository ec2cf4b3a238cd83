// Command otel-receiver is the OTLP receiver of the OpenTelemetry Collector with a file behind it: what tests send their spans and logs to.
//
// It is not part of Sheer. The receiver (gRPC and HTTP, with everything that it refuses) is the collector's own; whatever comes is written to a
// file as OTLP JSON, one request a line. With -delay it is slow, with -refuse it is full.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// sink writes what it is given, slowly or not at all.
type sink struct {
	mu     sync.Mutex
	out    *os.File
	delay  time.Duration
	refuse bool
}

var errFull = errors.New("the receiver is full: try again later")

func (s *sink) take(ctx context.Context, line []byte) error {
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.refuse {
		return errFull
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.out.Write(append(bytes.TrimSpace(line), '\n'))
	return err
}

func (s *sink) traces(ctx context.Context, td ptrace.Traces) error {
	line, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	if err != nil {
		return err
	}
	return s.take(ctx, line)
}

func (s *sink) logs(ctx context.Context, ld plog.Logs) error {
	line, err := (&plog.JSONMarshaler{}).MarshalLogs(ld)
	if err != nil {
		return err
	}
	return s.take(ctx, line)
}

func run() error {
	grpc := flag.String("grpc", "127.0.0.1:4317", "address for OTLP over gRPC")
	http := flag.String("http", "127.0.0.1:4318", "address for OTLP over HTTP")
	out := flag.String("out", "", "file to append to; standard output where empty")
	delay := flag.Duration("delay", 0, "wait before each answer")
	refuse := flag.Bool("refuse", false, "refuse everything, as a receiver whose memory is full")
	flag.Parse()

	s := &sink{out: os.Stdout, delay: *delay, refuse: *refuse}
	if *out != "" {
		file, err := os.OpenFile(*out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		s.out = file
	}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	err := confmap.NewFromStringMap(map[string]any{
		"protocols": map[string]any{
			"grpc": map[string]any{"endpoint": *grpc},
			"http": map[string]any{"endpoint": *http},
		},
	}).Unmarshal(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	settings := receivertest.NewNopSettings(factory.Type())
	traces, err := consumer.NewTraces(s.traces)
	if err != nil {
		return err
	}
	logs, err := consumer.NewLogs(s.logs)
	if err != nil {
		return err
	}
	tracesReceiver, err := factory.CreateTraces(ctx, settings, config, traces)
	if err != nil {
		return err
	}
	logsReceiver, err := factory.CreateLogs(ctx, settings, config, logs)
	if err != nil {
		return err
	}
	host := componenttest.NewNopHost()
	for _, r := range []component.Component{tracesReceiver, logsReceiver} {
		if err := r.Start(ctx, host); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "listening on %s (gRPC) and %s (HTTP)\n", *grpc, *http)
	<-ctx.Done()
	last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return errors.Join(tracesReceiver.Shutdown(last), logsReceiver.Shutdown(last))
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "otel-receiver:", err)
		os.Exit(1)
	}
}
