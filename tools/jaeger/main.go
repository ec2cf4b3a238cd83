// Command jaeger is Jaeger's collector, memory and query service in one process: what tests send their spans to, and ask what became of them.
//
// It is not part of Sheer. Every part, and every flag, is Jaeger's own, put together as its `all-in-one` does it. What that has besides (Elasticsearch,
// Cassandra, Kafka, adaptive sampling) is more than half of its packages and is left out: docs/decisions/0020.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	collector "github.com/jaegertracing/jaeger/cmd/collector/app"
	collectorflags "github.com/jaegertracing/jaeger/cmd/collector/app/flags"
	query "github.com/jaegertracing/jaeger/cmd/query/app"
	"github.com/jaegertracing/jaeger/cmd/query/app/querysvc"
	querysvcv2 "github.com/jaegertracing/jaeger/cmd/query/app/querysvc/v2/querysvc"
	"github.com/jaegertracing/jaeger/pkg/config"
	"github.com/jaegertracing/jaeger/pkg/healthcheck"
	"github.com/jaegertracing/jaeger/pkg/telemetry"
	"github.com/jaegertracing/jaeger/pkg/tenancy"
	"github.com/jaegertracing/jaeger/plugin/metricstore/disabled"
	"github.com/jaegertracing/jaeger/plugin/storage/memory"
	"github.com/jaegertracing/jaeger/storage_v2/v1adapter"
	"github.com/spf13/viper"
	"go.uber.org/zap"
)

// startCollector takes spans: OTLP over gRPC (4317) and HTTP (4318).
func startCollector(v *viper.Viper, storage *memory.Factory, settings telemetry.Settings, health *healthcheck.HealthCheck) (*collector.Collector, error) {
	options, err := new(collectorflags.CollectorOptions).InitFromViper(v, settings.Logger)
	if err != nil {
		return nil, err
	}
	writer, err := storage.CreateSpanWriter()
	if err != nil {
		return nil, err
	}
	c := collector.New(&collector.CollectorParams{
		ServiceName:    "jaeger-collector",
		Logger:         settings.Logger,
		MetricsFactory: settings.Metrics,
		SpanWriter:     writer,
		HealthCheck:    health,
		TenancyMgr:     tenancy.NewManager(&options.Tenancy),
	})
	return c, c.Start(options)
}

// startQuery answers what the collector took: the HTTP API of Jaeger's pages (16686).
func startQuery(ctx context.Context, v *viper.Viper, storage *memory.Factory, settings telemetry.Settings) (*query.Server, error) {
	defaults := query.DefaultQueryOptions()
	options, err := defaults.InitFromViper(v, settings.Logger)
	if err != nil {
		return nil, err
	}
	adapter := v1adapter.NewFactory(storage)
	traces, err := adapter.CreateTraceReader()
	if err != nil {
		return nil, err
	}
	dependencies, err := adapter.CreateDependencyReader()
	if err != nil {
		return nil, err
	}
	metrics, err := disabled.NewMetricsReader()
	if err != nil {
		return nil, err
	}
	service := querysvc.NewQueryService(traces, dependencies, *options.BuildQueryServiceOptions(storage, settings.Logger))
	servicev2 := querysvcv2.NewQueryService(traces, dependencies, *options.BuildQueryServiceOptionsV2(storage, settings.Logger))
	server, err := query.NewServer(ctx, service, servicev2, metrics, options, tenancy.NewManager(&options.Tenancy), settings)
	if err != nil {
		return nil, err
	}
	return server, server.Start(ctx)
}

func run() error {
	storage := memory.NewFactory()
	v, command := config.Viperize(storage.AddFlags, collectorflags.AddFlags, query.AddFlags)
	if err := command.ParseFlags(os.Args[1:]); err != nil {
		return err
	}
	logger, err := zap.NewProduction()
	if err != nil {
		return err
	}
	health := healthcheck.New()
	settings := telemetry.NoopSettings()
	settings.Logger = logger
	settings.ReportStatus = telemetry.HCAdapter(health)

	storage.InitFromViper(v, logger)
	if err := storage.Initialize(settings.Metrics, logger); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := startCollector(v, storage, settings, health)
	if err != nil {
		return err
	}
	q, err := startQuery(ctx, v, storage, settings)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return errors.Join(c.Close(), q.Close())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "jaeger:", err)
		os.Exit(1)
	}
}
