"""Writes the dashboards beside this file: `python3 dashboards.py`; with `--check` it compares them instead.

A panel is a title and its series: PromQL with the selector `$S`, which restricts it to the chosen installation, and the
legend. A series that has no value in a healthy process names where it has one: `kafka`, `embedded` or `fault`.
deploy/observe.py runs every other one against live processes and fails where the result is empty.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent / "dashboards"
SELECTOR = 'namespace=~"$namespace", job=~"$job"'
RATE = "$__rate_interval"
BREAKER = {"0": ("closed", "green"), "1": ("half open", "orange"), "2": ("open", "red")}


class Series:
    """One query of a panel. `needs` is where it has a value: everywhere, or kafka, embedded, fault."""

    def __init__(self, expr, legend="", needs=None):
        assert needs in (None, "kafka", "embedded", "fault"), needs
        self.expr = expr.replace("$S", SELECTOR)
        self.legend = legend
        self.needs = needs


class Panel:
    """A panel: `unit` is Grafana's; `warn` and `alarm` are where its values become orange and red."""

    def __init__(self, title, *series, kind="timeseries", unit="short", warn=None, alarm=None, about="", states=None,
                 stacked=False):
        self.title, self.series, self.kind, self.unit = title, series, kind, unit
        self.warn, self.alarm, self.about, self.states, self.stacked = warn, alarm, about, states, stacked

    def size(self):
        return (4, 4) if self.kind == "stat" else (8, 8)

    def model(self, number, x, y):
        width, height = self.size()
        datasource = {"type": "prometheus", "uid": "${datasource}"}
        steps = [{"color": "green", "value": None}]
        steps += [{"color": "orange", "value": self.warn}] if self.warn is not None else []
        steps += [{"color": "red", "value": self.alarm}] if self.alarm is not None else []
        defaults = {"unit": self.unit, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.kind == "timeseries":
            defaults["min"] = 0
            defaults["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 20 if self.stacked else 5,
                                  "showPoints": "never", "spanNulls": False,
                                  "stacking": {"mode": "normal" if self.stacked else "none"},
                                  "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"}}
            options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
        elif self.kind == "stat":
            options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        else:
            defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
            options = {"legend": {"displayMode": "list", "placement": "bottom"}, "showValue": "auto"}
        if self.states:
            names = {value: {"text": text, "color": color, "index": int(value)} for value, (text, color) in self.states.items()}
            defaults["mappings"] = [{"type": "value", "options": names}]
        targets = [{"refId": chr(ord("A") + at), "datasource": datasource, "expr": series.expr,
                    "legendFormat": series.legend or "__auto", "range": True} for at, series in enumerate(self.series)]
        model = {"id": number, "type": self.kind, "title": self.title, "datasource": datasource,
                 "gridPos": {"x": x, "y": y, "w": width, "h": height},
                 "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "targets": targets}
        return model | ({"description": self.about} if self.about else {})


def rate(metric, labels="", by=""):
    """The rate per second of a counter, summed by labels."""
    inner = f"rate({metric}{{$S{', ' + labels if labels else ''}}}[{RATE}])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def quantile(q, metric, by=""):
    """A quantile of a histogram over the interval of the panel."""
    return f"histogram_quantile({q}, sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket{{$S}}[{RATE}])))"


def latencies(metric, by="", legend=""):
    name = f"{legend} " if legend else ""
    return [Series(quantile(q, metric, by), f"{name}p{q * 100:.0f}") for q in (0.5, 0.99)]


def lag(by):
    return f"max by ({by}) (clamp_min(time() - max by (task) (tally_task_clock_seconds{{$S}}), 0))"


SINK_LAG = "max by (sink) (tally_sink_clock_lag_seconds{$S} < 1e12)"
SERVER_ERRORS = rate("tally_http_requests_total", 'status=~"5..", route!="/readyz"')

OVERVIEW = [
    Panel("Processes", Series('sum(up{$S} and on (job, instance) tally_build_info{$S})'), kind="stat"),
    Panel("Events accepted", Series(rate("tally_ingest_events_total", 'outcome="accepted"')), kind="stat", unit="ops"),
    Panel("Events rejected", Series(rate("tally_ingest_events_total", 'outcome="rejected"')), kind="stat", unit="ops", warn=1),
    Panel("Greatest lag of a task", Series(lag("").replace(" by ()", "")), kind="stat", unit="s", warn=30, alarm=300),
    Panel("Greatest lag of a sink", Series(f"max({SINK_LAG})"), kind="stat", unit="s", warn=30, alarm=60),
    Panel("Alerts", Series('count(ALERTS{$S, alertname=~"Tally.*", alertstate="firing"}) or vector(0)'), kind="stat", alarm=1),
    Panel("Events", Series(rate("tally_ingest_events_total", by="outcome"), "{{outcome}}"), unit="ops"),
    Panel("HTTP requests", Series(rate("tally_http_requests_total", by="route"), "{{route}}"), unit="reqps", stacked=True),
    Panel("HTTP 99th percentile", Series(quantile(0.99, "tally_http_request_seconds", "route"), "{{route}}"), unit="s",
          about="Time until the response head was ready."),
    Panel("Lag of tasks", Series(lag("task"), "{{task}}"), unit="s", warn=30, alarm=300,
          about="How far the clock of a task is behind the wall clock. About 1 s without load, up to 6 s for an idle task."),
    Panel("Lag of sinks", Series(SINK_LAG, "{{sink}}"), unit="s", warn=30, alarm=60,
          about="How far the clock of the stored data is behind the wall clock."),
    Panel("Server errors", Series(f"({SERVER_ERRORS} or vector(0)) / {rate('tally_http_requests_total')}", "5xx"),
          unit="percentunit", warn=0.01, alarm=0.05),
    Panel("CPU", Series(f"rate(process_cpu_seconds_total{{$S}}[{RATE}])", "{{instance}}"), unit="short",
          about="Cores in use."),
    Panel("Resident memory", Series("process_resident_memory_bytes{$S}", "{{instance}}"), unit="bytes"),
    Panel("Open files", Series("process_open_fds{$S} / process_max_fds{$S}", "{{instance}}"), unit="percentunit",
          warn=0.8, alarm=0.95),
    Panel("Clock in doubt", Series("max by (instance) (tally_clock_in_doubt{$S})", "{{instance}}"), alarm=1),
    Panel("Uptime", Series("time() - process_start_time_seconds{$S}", "{{instance}}"), unit="s"),
    Panel("Versions", Series("count by (version, revision) (tally_build_info{$S})", "{{version}} {{revision}}"), stacked=True),
]

PROCESSORS = [
    Panel("Records by node", Series(rate("tally_node_records_total", by="node"), "{{node}}"), unit="ops"),
    Panel("Forwarded by node", Series(rate("tally_node_forwarded_total", by="node, value"), "{{node}}: {{value}}"), unit="ops"),
    Panel("Not counted", Series(rate("tally_node_forwarded_total", 'value="verdict"', "node"), "{{node}}: verdict"),
          Series(rate("tally_node_rejected_total", by="node"), "{{node}}: rejected", needs="fault"), unit="ops",
          about="Verdicts (duplicate, limited, late) and records that a node could not process."),
    Panel("Lag of tasks", Series(lag("task"), "{{task}}"), unit="s", warn=30, alarm=300),
    Panel("Commits", Series(rate("tally_commits_total"), "commits"), Series(rate("tally_aborts_total"), "rolled back"),
          unit="ops"),
    Panel("Time of a commit", *latencies("tally_commit_seconds"), unit="s"),
    Panel("Tasks", Series("sum by (thread) (tally_tasks{$S})", "{{thread}}"), stacked=True),
    Panel("Tasks rebuilt, producers replaced", Series(f"sum(increase(tally_rebuilds_total{{$S}}[{RATE}]))", "rebuilt"),
          Series(f"sum(increase(tally_producer_replacements_total{{$S}}[{RATE}]))", "producers replaced")),
    Panel("Clocks", Series("sum(tally_partitions_ahead{$S})", "partitions that wait for the clock"),
          Series(rate("tally_records_behind_clock_total"), "records behind the clock per second"), alarm=1),
    Panel("Entries of stores", Series("sum by (store) (tally_store_entries{$S})", "{{store}}"), stacked=True),
    Panel("Changelogs", Series("sum by (subtopology) (tally_changelog_bytes{$S})", "{{subtopology}}"), unit="bytes"),
    Panel("Snapshots of changelogs", Series(f"sum(increase(tally_snapshots_total{{$S}}[{RATE}]))", "snapshots")),
    Panel("Time of a checkpoint", *latencies("tally_checkpoint_seconds"), unit="s"),
    Panel("Failed checkpoints", Series(f"sum(increase(tally_checkpoint_failures_total{{$S}}[{RATE}]))", "failures"),
          Series("sum(tally_checkpoints_failing{$S})", "tasks without a checkpoint"), alarm=1),
    Panel("Restores", Series("sum by (instance) (tally_restore_seconds_sum{$S}) / sum by (instance) (tally_restore_seconds_count{$S})",
                             "{{instance}}"), unit="s",
          about="Mean time from the assignment of a task until it processes records, since the start of the process."),
    Panel("Restored records", Series(rate("tally_restored_records_total"), "records"), unit="ops"),
    Panel("Embedded log", Series("tally_log_file_bytes{$S}", "{{instance}}: file", needs="embedded"),
          Series("tally_log_live_bytes{$S}", "{{instance}}: live", needs="embedded"), unit="bytes"),
    Panel("Hanging transactions", Series("max by (topic) (tally_log_hanging_transactions{$S})", "{{topic}}", needs="kafka"),
          alarm=1, about="Partitions of Kafka whose last stable offset has not moved for 30 s although records follow."),
]

SINKS = [
    Panel("Lag", Series(SINK_LAG, "{{sink}}"), unit="s", warn=30, alarm=60),
    Panel("Lag in records", Series("sum by (sink, topic) (tally_sink_lag_records{$S})", "{{sink}}: {{topic}}")),
    Panel("Circuit breakers", Series("max by (sink, instance) (tally_sink_breaker_state{$S})", "{{sink}} {{instance}}"),
          kind="state-timeline", states=BREAKER, about="Open after 5 failures in a row: only probes are sent."),
    Panel("Records", Series(rate("tally_sink_records_total", by="sink, topic"), "{{sink}}: {{topic}}"), unit="ops", stacked=True),
    Panel("Records per batch", Series(f"{rate('tally_sink_records_total', by='sink')} / {rate('tally_sink_batches_total', by='sink')}",
                                      "{{sink}}")),
    Panel("Time to write a batch", *latencies("tally_sink_write_seconds", "sink", "{{sink}}"), unit="s"),
    Panel("Failures", Series(rate("tally_sink_errors_total", by="sink"), "{{sink}}"), unit="ops", alarm=0.1),
    Panel("Partitions", Series("sum by (sink, instance) (tally_sink_partitions{$S})", "{{sink}} {{instance}}"), stacked=True),
    Panel("Expired rows", Series(rate("tally_sink_expired_rows_total", by="table"), "{{table}}"), unit="ops"),
    Panel("Positions reset", Series(f"sum by (sink) (increase(tally_sink_position_reset_total{{$S}}[{RATE}]))", "{{sink}}"), alarm=1),
    Panel("Refills of Redis", Series(f"sum by (sink) (increase(tally_sink_refills_total{{$S}}[{RATE}]))", "{{sink}}", needs="kafka"),
          warn=1),
    Panel("Cache in memory", Series("sum by (instance) (tally_sink_cache_size_bytes{$S})", "{{instance}}", needs="embedded"), unit="bytes"),
    Panel("Subjects in memory", Series("sum by (instance) (tally_sink_cache_subjects{$S})", "{{instance}}", needs="embedded")),
    Panel("Subjects evicted", Series(rate("tally_sink_cache_evicted_total", by="instance"), "{{instance}}", needs="embedded"), unit="ops"),
]

API = [
    Panel("Requests", Series(rate("tally_http_requests_total", by="route, status"), "{{route}} {{status}}"), unit="reqps"),
    Panel("Latency", *latencies("tally_http_request_seconds", "route", "{{route}}"), unit="s"),
    Panel("Connections", Series("sum by (instance) (tally_http_connections{$S})", "{{instance}}"),
          Series("sum(tally_http_requests_in_flight{$S})", "requests in flight"),
          Series(rate("tally_http_connections_refused_total"), "refused per second")),
    Panel("Events", Series(rate("tally_ingest_events_total", by="outcome"), "{{outcome}}"), unit="ops"),
    Panel("Time until the log has the events", *latencies("tally_ingest_append_seconds"), unit="s"),
    Panel("Requests that wait for the log", Series("sum by (instance) (tally_ingest_requests_in_flight{$S})", "{{instance}}")),
    Panel("Events that could not be taken", Series(rate("tally_ingest_unavailable_total", by="reason"), "{{reason}}", needs="fault"),
          unit="reqps", alarm=0.1),
    Panel("Refused requests", Series(rate("tally_access_refused_total", by="reason"), "{{reason}}", needs="fault"),
          Series(rate("tally_access_limited_total", by="rule"), "above the limit: {{rule}}", needs="fault"), unit="reqps"),
    Panel("Shared rate limits", Series("min by (instance) (tally_access_shared_limits_up{$S})", "{{instance}}"),
          about="1 while limits are shared through Redis; 0 also without Redis."),
    Panel("Reads of subjects by store", Series(rate("tally_api_reads_total", by="store"), "{{store}}"), unit="ops", stacked=True),
    Panel("Subjects that a store did not have", Series(rate("tally_api_misses_total", by="store"), "{{store}}"), unit="ops"),
    Panel("Reads joined", Series(rate("tally_api_coalesced_total"), "joined an identical read"), unit="ops"),
    Panel("Circuit breakers", Series("max by (store, instance) (tally_api_breaker_state{$S})", "{{store}} {{instance}}"),
          kind="state-timeline", states=BREAKER),
    Panel("Wait of reads with `after`", *latencies("tally_api_wait_seconds"), unit="s"),
    Panel("Live streams", Series("sum by (instance) (tally_api_live_streams{$S})", "{{instance}}"),
          Series("sum(tally_api_live_watched{$S})", "subjects and boards")),
    Panel("Events of live streams", Series(rate("tally_api_live_events_total"), "sent"),
          Series(rate("tally_api_live_refused_total"), "streams refused"), unit="ops"),
    Panel("Cache in front of Redis", Series("sum by (instance) (tally_api_view_size_bytes{$S})", "{{instance}}"), unit="bytes"),
    Panel("Subjects in front of Redis", Series("sum by (instance) (tally_api_view_subjects{$S})", "{{instance}}")),
    Panel("Lag of that cache", Series("max by (instance) (tally_api_view_clock_lag_seconds{$S} < 1e12)", "{{instance}}"), unit="s",
          warn=30),
    Panel("Records that it is behind", Series("max by (instance) (tally_api_view_lag_records{$S})", "{{instance}}")),
    Panel("Collects", Series(rate("tally_collects_changes_total"), "changed"), Series(rate("tally_outbox_relayed_total"), "relayed"),
          unit="ops"),
    Panel("Rows of the outbox", Series("max(tally_outbox_rows{$S})", "rows that wait for the log")),
    Panel("Age of the outbox", Series("max(tally_outbox_age_seconds{$S})", "oldest row"), unit="s", warn=5, alarm=30),
]

MERGED = 'node=~".+[.]merge"'
BOARDS = [
    Panel("Reads of boards by store", Series(rate("tally_api_board_reads_total", by="store"), "{{store}}"), unit="ops", stacked=True),
    Panel("Latency of reads", Series('histogram_quantile(0.99, sum by (route, le) (rate(tally_http_request_seconds_bucket'
                                     '{$S, route=~"/v1/rankings.*"}[' + RATE + '])))', "{{route}} p99"), unit="s"),
    Panel("Live streams", Series("sum(tally_api_live_watched{$S})", "subjects and boards"),
          Series("sum(tally_api_live_streams{$S})", "streams")),
    Panel("Changes of a task's places", Series(rate("tally_node_forwarded_total", 'value="top"', "node"), "{{node}}"), unit="ops",
          about="What the board of each partition hands to the node that merges them."),
    Panel("Rankings published", Series(rate("tally_node_forwarded_total", 'value="ranking"', "node"), "{{node}}"), unit="ops"),
    Panel("Records merged", Series(rate("tally_node_records_total", MERGED, "node"), "{{node}}"), unit="ops"),
    Panel("Subjects with a score", Series('sum by (store) (label_replace(tally_store_entries{$S}, "node", "$1.merge", "store", "(.*)")'
                                          " and on (node) tally_node_records_total{$S, " + MERGED + "})", "{{store}}")),
    Panel("Clock of the merging task", Series('max by (task) (clamp_min(time() - max by (task) '
                                             '(tally_task_clock_seconds{$S, task=~"by-board/.*"}), 0))', "{{task}}"), unit="s", warn=30),
    Panel("Rankings written", Series(rate("tally_sink_records_total", 'topic="rankings"', "sink"), "{{sink}}"), unit="ops"),
    Panel("Lag of rankings", Series('sum by (sink) (tally_sink_lag_records{$S, topic="rankings"})', "{{sink}}")),
]

DASHBOARDS = {
    "overview": ("tally: overview", OVERVIEW),
    "processors": ("tally: processors", PROCESSORS),
    "sinks": ("tally: sinks", SINKS),
    "api": ("tally: APIs", API),
    "boards": ("tally: boards", BOARDS),
}


def variable(name, label):
    query = "label_values(tally_build_info, namespace)" if name == "namespace" else \
        'label_values(tally_build_info{namespace=~"$namespace"}, job)'
    return {"name": name, "label": label, "type": "query", "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": query, "refId": name}, "definition": query, "refresh": 2, "includeAll": True, "multi": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "sort": 1}


def dashboard(name):
    title, panels = DASHBOARDS[name]
    models, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        width, height = panel.size()
        if x + width > 24 or (models and height != row):
            x, y = 0, y + row
        models.append(panel.model(number, x, y))
        x, row = x + width, height
    datasource = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1,
                  "current": {}}
    links = [{"type": "dashboards", "tags": ["tally"], "title": "tally", "asDropdown": True, "keepTime": True, "includeVars": True}]
    return {"uid": f"tally-{name}", "title": title, "tags": ["tally"], "schemaVersion": 39, "version": 1, "editable": True,
            "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "links": links,
            "templating": {"list": [datasource, variable("namespace", "Namespace"), variable("job", "Job")]}, "panels": models}


def text(name):
    return json.dumps(dashboard(name), indent=1, ensure_ascii=False) + "\n"


def series():
    """Every query, with the place where it stands."""
    for name, (_, panels) in DASHBOARDS.items():
        for panel in panels:
            for one in panel.series:
                yield f"{name}: {panel.title}", one


def main():
    wanted = {HERE / f"{name}.json": text(name) for name in DASHBOARDS}
    if sys.argv[1:] == ["--check"]:
        found = {path: path.read_text() for path in HERE.glob("*.json")}
        assert found == wanted, "deploy/grafana/dashboards differs: python3 deploy/grafana/dashboards.py"
        return
    for path, content in wanted.items():
        path.write_text(content)


if __name__ == "__main__":
    main()
