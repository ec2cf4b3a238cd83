#!/usr/bin/env python3
"""Writes the dashboards beside it: `python3 observability/dashboards/make.py`. A panel is one line here and forty in Grafana's JSON."""

import json
import pathlib

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WORKLOAD = "namespace=~\"$namespace\", deployment=~\"$deployment\""


def panel(title, queries, unit="short", width=8, height=8, kind="timeseries", description=""):
    targets = [
        {"datasource": SOURCE, "refId": chr(65 + place), "expr": expr, "legendFormat": legend, "exemplar": "latency" in expr}
        for place, (expr, legend) in enumerate(queries)
    ]
    custom = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never", "spanNulls": False}
    limits = {"min": 0, "max": 1} if unit == "percentunit" else {"min": 0}
    return {
        "title": title,
        "description": description,
        "type": kind,
        "datasource": SOURCE,
        "targets": targets,
        "gridPos": {"w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, **limits, **({"custom": custom} if kind == "timeseries" else {})}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        if kind == "timeseries"
        else {},
    }


def variable(name, query, label, multi=True):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard(name, title, variables, rows):
    panels, y, number = [], 0, 1
    for row_title, row in rows:
        panels.append({"id": number, "type": "row", "title": row_title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "collapsed": False, "panels": []})
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for one in row:
            place = one["gridPos"]
            if x + place["w"] > 24:
                x, y, tallest = 0, y + tallest, 0
            place.update(x=x, y=y)
            panels.append({"id": number, **one})
            number, x, tallest = number + 1, x + place["w"], max(tallest, place["h"])
        y += tallest
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    board = {
        "uid": f"sheer-{name}",
        "title": title,
        "tags": ["sheer"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *variables]},
        "links": [{"type": "dashboards", "tags": ["sheer"], "title": "Sheer", "asDropdown": True, "includeVars": True, "keepTime": True}],
        "panels": panels,
    }
    (HERE / f"{name}.json").write_text(json.dumps(board, indent=2) + "\n")


def rate(family, matchers, by="", window="$__rate_interval"):
    grouped = f"sum by ({by}) " if by else "sum "
    return f"{grouped}(rate({family}{{{matchers}}}[{window}]))"


def success(family, matchers, by):
    good = rate(family, matchers + ', classification="success"', by)
    return f"{good} / {rate(family, matchers, by)}"


def quantile(q, family, matchers, by=""):
    return f"histogram_quantile({q}, {rate(family + '_bucket', matchers, ', '.join(filter(None, [by, 'le'])))})"


NAMESPACE = variable("namespace", "label_values(response_total, namespace)", "Namespace")
DEPLOYMENT = variable("deployment", 'label_values(response_total{namespace=~"$namespace"}, deployment)', "Deployment")
SERVICE = variable("service", 'label_values(route_response_total{parent_kind="Service"}, parent_name)', "Service")

IN = f'direction="inbound", {WORKLOAD}'
OUT = f'direction="outbound", {WORKLOAD}'
BY = "namespace, deployment"
NAME = "{{namespace}}/{{deployment}}"

dashboard(
    "mesh",
    "Sheer / Mesh",
    [NAMESPACE],
    [
        (
            "Everything",
            [
                panel("Requests a second", [(rate("response_total", 'direction="inbound", namespace=~"$namespace"'), "requests")], "reqps", 6, 4, "stat"),
                panel("Success", [(success("response_total", 'direction="inbound", namespace=~"$namespace"', "").replace("sum by () ", "sum "), "success")], "percentunit", 6, 4, "stat"),
                panel("Over mutual TLS", [(rate("response_total", 'direction="inbound", tls="true", namespace=~"$namespace"') + " / " + rate("response_total", 'direction="inbound", tls!="", namespace=~"$namespace"'), "mTLS")], "percentunit", 6, 4, "stat"),
                panel("Sidecars", [('count(proxy_build_info{namespace=~"$namespace"})', "sidecars")], "short", 6, 4, "stat"),
            ],
        ),
        (
            "Workloads, by what arrives",
            [
                panel("Success", [(success("response_total", 'direction="inbound", namespace=~"$namespace"', BY), NAME)], "percentunit"),
                panel("Requests a second", [(rate("response_total", 'direction="inbound", namespace=~"$namespace"', BY), NAME)], "reqps"),
                panel("p99", [(quantile(0.99, "response_latency_ms", 'direction="inbound", namespace=~"$namespace"', BY), NAME)], "ms"),
            ],
        ),
        (
            "What proxies ended themselves",
            [
                panel("By verdict", [(rate("sheer_errors_total", 'namespace=~"$namespace"', "verdict"), "{{verdict}}")], "reqps", description="Which layer is at fault"),
                panel("By reason", [(rate("sheer_errors_total", 'namespace=~"$namespace"', "direction, reason"), "{{direction}} {{reason}}")], "reqps"),
                panel("Endpoints that sit out", [('sum by (parent_name, state) (sheer_breaker_endpoints{namespace=~"$namespace"})', "{{parent_name}} {{state}}")]),
            ],
        ),
        (
            "Control plane, seen from the proxies",
            [
                panel("Proxies without a connection", [('count by (service) (control_connected{namespace=~"$namespace"} == 0) or vector(0)', "{{service}}")]),
                panel("Most silent stream", [('max by (method) (sheer_control_stream_age_seconds{namespace=~"$namespace"})', "{{method}}")], "s", description="Streams speak only when something changes"),
                panel("Certificates: time left", [('min by (namespace) (control_identity_cert_expiration_timestamp_seconds{namespace=~"$namespace"}) - time()', "{{namespace}}")], "s"),
            ],
        ),
    ],
)

dashboard(
    "workload",
    "Sheer / Workload",
    [NAMESPACE, DEPLOYMENT],
    [
        (
            "What arrives",
            [
                panel("Success", [(success("response_total", IN, BY), NAME)], "percentunit", 6),
                panel("Requests a second, by answer", [(rate("response_total", IN, "status_code, grpc_status"), "{{status_code}} grpc {{grpc_status}}")], "reqps", 6),
                panel("Latency", [(quantile(q, "response_latency_ms", IN), f"p{int(q * 100)}") for q in (0.5, 0.95, 0.99)], "ms", 6),
                panel("By client", [(rate("response_total", IN, "client_id, tls"), "{{client_id}} tls {{tls}}")], "reqps", 6),
            ],
        ),
        (
            "What is sent",
            [
                panel("Success", [(success("response_total", OUT, "parent_name"), "{{parent_name}}")], "percentunit", 6),
                panel("Requests a second", [(rate("response_total", OUT, "parent_name"), "{{parent_name}}")], "reqps", 6),
                panel("p99", [(quantile(0.99, "response_latency_ms", OUT, "parent_name"), "{{parent_name}}")], "ms", 6),
                panel("Retries a second", [(rate("sheer_retries_total", WORKLOAD, "parent_name, reason"), "{{parent_name}} {{reason}}")], "reqps", 6),
            ],
        ),
        (
            "Connections",
            [
                panel("Open", [(f"sum by (direction, peer) (tcp_open_connections{{{WORKLOAD}}})", "{{direction}} {{peer}}")], "short", 6),
                panel("Opened a second", [(rate("tcp_open_total", WORKLOAD, "direction, peer, tls"), "{{direction}} {{peer}} tls {{tls}}")], "cps", 6),
                panel("Bytes a second", [(rate("tcp_read_bytes_total", WORKLOAD, "direction, peer"), "{{direction}} {{peer}} read"), (rate("tcp_write_bytes_total", WORKLOAD, "direction, peer"), "{{direction}} {{peer}} written")], "Bps", 6),
                panel("TLS handshakes a second", [(rate("sheer_tls_handshakes_total", WORKLOAD, "direction, result, reason"), "{{direction}} {{result}} {{reason}}")], "cps", 6),
            ],
        ),
        (
            "HTTP/2",
            [
                panel("Frames a second", [(rate("sheer_http2_frames_total", WORKLOAD, "type, sent_by"), "{{type}} by {{sent_by}}")], "short", 6),
                panel("Resets a second", [(rate("sheer_http2_resets_total", WORKLOAD, "direction, peer, sent_by, reason"), "{{direction}} {{peer}}: {{reason}} by {{sent_by}}")], "short", 6),
                panel("Header lists, p99", [(quantile(0.99, "sheer_header_list_bytes", WORKLOAD, "direction"), "{{direction}}")], "bytes", 6),
                panel("Waits for a window, a second", [(rate("sheer_flow_control_stalls_total", WORKLOAD, "direction, body"), "{{direction}} {{body}}")], "short", 6),
            ],
        ),
        (
            "Sidecars",
            [
                panel("CPU", [(rate("process_cpu_seconds_total", WORKLOAD, "pod"), "{{pod}}")], "short", 8),
                panel("Memory", [(f"sum by (pod) (process_resident_memory_bytes{{{WORKLOAD}}})", "{{pod}}")], "bytes", 8),
                panel("Detection, p99", [(quantile(0.99, "inbound_tcp_detect_http_duration_seconds", WORKLOAD), "inbound"), (quantile(0.99, "outbound_tcp_detect_http_duration_seconds", WORKLOAD), "outbound")], "s", 8),
            ],
        ),
    ],
)

PARENT = 'parent_kind="Service", parent_name=~"$service"'
dashboard(
    "service",
    "Sheer / Service and routes",
    [SERVICE],
    [
        (
            "What clients see",
            [
                panel("Effective and actual success", [(success("route_response_total", PARENT, "parent_name"), "{{parent_name}} effective"), (success("route_actual_response_total", PARENT, "parent_name"), "{{parent_name}} actual")], "percentunit", description="Effective: after retries. Actual: every attempt."),
                panel("Requests and attempts a second", [(rate("route_response_total", PARENT, "parent_name"), "{{parent_name}} requests"), (rate("route_actual_response_total", PARENT, "parent_name"), "{{parent_name}} attempts")], "reqps"),
                panel("p99", [(quantile(0.99, "route_response_latency_ms", PARENT, "parent_name"), "{{parent_name}}")], "ms"),
            ],
        ),
        (
            "Routes",
            [
                panel("Success", [(success("route_response_total", PARENT, "parent_name, route_name, route_rule"), "{{parent_name}} {{route_name}} rule {{route_rule}}")], "percentunit"),
                panel("Requests a second", [(rate("route_response_total", PARENT, "parent_name, route_name, route_rule"), "{{parent_name}} {{route_name}} rule {{route_rule}}")], "reqps"),
                panel("Not tried again", [(rate("route_retryable_total", PARENT, "parent_name, skipped"), "{{parent_name}} {{skipped}}")], "reqps"),
            ],
        ),
        (
            "Balancers",
            [
                panel("Endpoints", [(f"sum by (parent_name, endpoint_state) (outbound_http_balancer_endpoints{{{PARENT}}})", "{{parent_name}} {{endpoint_state}}")]),
                panel("Waiting", [(f"sum by (parent_name) (outbound_http_balancer_queue_length{{{PARENT}}})", "{{parent_name}}")]),
                panel("Breakers that opened, a second", [(rate("sheer_breaker_trips_total", PARENT, "parent_name"), "{{parent_name}}")]),
            ],
        ),
    ],
)
