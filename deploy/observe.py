"""Runs every expression of dashboards, rules and the chart against a Prometheus that reads live processes: none may be empty.

    observe.py PROMETHEUS WRITERS READERS [kafka]    addresses, several separated by blanks; called by observe.sh

Until all have a value it sends what no synthetic traffic has: collects, reads with `after`, boards, a live stream. An alert
has no value while all is well, so each is run with `bool` comparisons, which keep their values. What has none without a
fault is named here or marked in dashboards.py; of these the metrics must be documented in docs/metrics.md.
"""

import http.client
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "deploy" / "grafana"))
sys.dont_write_bytecode = True
import dashboards  # noqa: E402

# The alerts whose expression has no value in healthy processes even with `bool`.
FAULT_ALERTS = {"TallyProcessNotReady", "TallyDeadLetters", "TallyLogFull", "TallyIngestUnavailable", "TallyKeysRefused",
                "TallyServerErrors"}
KAFKA_ALERTS = {"TallyHangingTransaction"}
LIMIT_S = 180


def get(address, path, **parameters):
    query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
    with urllib.request.urlopen(address + path + query, timeout=30) as response:
        return json.load(response)


def values(prometheus, expr, labels):
    """The values of an expression that are numbers and have the labels that the legend or the text of the alert names."""
    try:
        result = get(prometheus, "/api/v1/query", query=expr)["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"observe: {expr}: {json.load(error)['error']}")
    return [one for one in result["result"] if one["value"][1] != "NaN" and labels <= one["metric"].keys()]


def send(address, method, path, body=None):
    request = urllib.request.Request(address + path, method=method, data=body and json.dumps(body).encode(),
                                     headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def traffic(writers, readers, round):
    """What synthetic traffic does not do. A store that has just been started may answer later."""
    for writer, reader in zip(writers, readers):
        try:
            event = {"event_id": f"observe-{round}", "type": "view", "actor_id": "observer", "subject_id": "article:1"}
            receipt = send(writer, "POST", "/v1/events", event)["receipt"]
            send(reader, "GET", "/v1/subjects/article:1/counters?after=" + receipt)
            send(reader, "GET", "/v1/rankings/hot")
            send(reader, "PUT" if round % 2 else "DELETE", "/v1/subjects/article:1/collects/observer")
            send(reader, "GET", "/readyz")
        except OSError:
            pass


def live_stream(reader):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(reader).netloc)
    connection.request("GET", "/v1/live?subject_id=article:1")
    return connection


def names(expr):
    """The metrics of an expression, by the name of their family."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"(?<![\w:])(?:tally|process)_\w+", expr)}


def healthy(expr):
    """An alert's expression that keeps its value while all is well, and looks back seconds instead of minutes."""
    expr = re.sub(r"(?<= )(==|<|>) (?!bool)", r"\1 bool ", expr)
    return re.sub(r"offset \d+m", "offset 3s", expr)


def documents(rules):
    """What is described twice has to agree: alerts, their tests, their table and the headings that they lead to."""
    alerts = {rule["name"]: rule for rule in rules if rule["type"] == "alerting"}
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "operations.md").read_text(), re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    tests = (ROOT / "deploy/prometheus/rules.test.yml").read_text()
    fired = set(re.findall(r'alertname="(\w+)", alertstate="firing", severity', tests))
    ended = re.findall(r"""{ expr: 'ALERTS{alertname=~?"(.+)"}', eval_time: \w+ }""", tests)
    wrong = [f"rules.test.yml has no fault for {name}" for name in alerts.keys() - fired]
    wrong += [f"rules.test.yml has no end of {name}" for name in alerts if not any(re.fullmatch(one, name) for one in ended)]
    wrong += [f"{name} is not in docs/metrics.md" for name in alerts if f"`{name}`" not in metrics]
    wrong += [f"{name} in docs/metrics.md is no alert" for name in set(re.findall(r"`(Tally\w+)`", metrics)) - alerts.keys()]
    for name, rule in alerts.items():
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        if file != "docs/operations.md" or anchor not in anchors:
            wrong.append(f"{name} leads to {rule['annotations']['runbook_url']}, which does not exist")
    documented = set(re.findall(r"^\| `(\w+)` \|", metrics, re.M))
    used = {name: rule["query"] for name, rule in alerts.items()}
    used |= {place: one.expr for place, one in dashboards.series()}
    for place, expr in used.items():
        wrong += [f"{place}: {name} is not in docs/metrics.md" for name in names(expr) - documented]
    days = re.findall(r"retention: (\d+)d", (ROOT / "topology.yaml").read_text())
    half_s = min(map(int, days)) * 86400 // 2
    if f"> {half_s}" not in alerts["TallySinkLagNearRetention"]["query"]:
        wrong.append(f"TallySinkLagNearRetention is not at half of the shortest retention of topology.yaml, {half_s} s")
    if wrong:
        sys.exit("observe: " + "\n  ".join(wrong))


def main():
    prometheus, writers, readers, *has = sys.argv[1:]
    writers, readers = writers.split(), readers.split()
    rules = [rule for group in get(prometheus, "/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    documents(rules)
    without = {"fault"} | ({"kafka"} if not has else set())
    pending, marked = {}, 0
    for place, one in dashboards.series():
        if one.needs in without:
            marked += 1
            continue
        expr = one.expr.replace("$__rate_interval", "15s").replace("$namespace", ".*").replace("$job", ".*")
        pending[f"{place}: {one.legend}"] = expr, set(re.findall(r"{{(\w+)}}", one.legend))
    for rule in rules:
        if rule["name"] in FAULT_ALERTS or (not has and rule["name"] in KAFKA_ALERTS):
            marked += 1
            continue
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        pending[rule["name"]] = healthy(rule["query"]) if rule["type"] == "alerting" else rule["query"], labels
    # What KEDA asks for.
    scaling = (ROOT / "deploy/helm/tally/templates/autoscaling.yaml").read_text()
    queries = re.findall(r"query: '(.*)'", scaling)
    assert queries, "no query in the chart"
    pending |= {f"chart: {query}": (re.sub(r'namespace="{{.*?}}"', "", query), set()) for query in queries}
    total, until, round = len(pending), time.monotonic() + LIMIT_S, 0
    streams = [live_stream(reader) for reader in readers]
    while pending and time.monotonic() < until:
        traffic(writers, readers, round)
        pending = {place: one for place, one in pending.items() if not values(prometheus, *one)}
        round += 1
        time.sleep(0.5)
    for stream in streams:
        stream.close()
    if pending:
        sys.exit("observe: no value:\n  " + "\n  ".join(f"{place}: {expr} {labels or ''}" for place, (expr, labels) in pending.items()))
    print(f"observe: {total} expressions of dashboards, rules and the chart have values in live processes; {marked} have some only under a "
          "fault or on Kafka")


if __name__ == "__main__":
    main()
