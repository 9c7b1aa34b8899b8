"""Checks the rendered manifests; called by deploy/kubernetes.sh.

    check.py digest               the SHA-256 of the chart, without the files that it takes from elsewhere
    check.py topology             puts topology.yaml into tally.yaml, which needs no Helm while the chart is the same
    check.py manifests BINARY     tally.yaml: rendered from this chart, consistent, and for flags that the binary has
    check.py variables BINARY     only that roles have the flags and variables of the manifests on stdin
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "tally"
MANIFESTS = Path(__file__).parent / "tally.yaml"
TOPOLOGY = ROOT / "topology.yaml"
ROLES = ["ingest", "process", "sink", "api"]
# What SIGTERM needs at most (docs/operations.md, "Shutdown and exit codes").
STOP_S = 10


def digest():
    """Of all files with their names."""
    sums = hashlib.sha256()
    for path in sorted(CHART.rglob("*"), key=lambda path: path.relative_to(CHART).as_posix()):
        if path.is_file() and not path.is_symlink():
            sums.update(f"{path.relative_to(CHART).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sums.hexdigest()


def checksum():
    """What the pods carry, so that a changed topology replaces them."""
    return hashlib.sha256(TOPOLOGY.read_bytes()).hexdigest()


def put_topology():
    text = MANIFESTS.read_text()
    check(f"# chart: {digest()}\n" in text, "the chart has changed: install Helm 3 (https://helm.sh) to render it")
    lines = "".join(f"    {line}\n" for line in TOPOLOGY.read_text().strip().split("\n"))
    text = re.sub(r"(?<=\n  topology\.yaml: \|\n).*?(?=---\n)", lambda _: lines, text, flags=re.S)
    MANIFESTS.write_text(re.sub(r"(checksum/topology: )\w+", lambda found: found[1] + checksum(), text))


def check(condition, text):
    if not condition:
        sys.exit(f"kubernetes: {text}")


def variables(documents, binary):
    """Each role's pod starts that role, with flags and variables that it has."""
    pods = {}
    for one in documents:
        if one["kind"] in ("Deployment", "StatefulSet"):
            template = one["spec"]["template"]
            role = template["metadata"]["labels"]["app.kubernetes.io/component"]
            container = template["spec"]["containers"][0]
            pods[role] = (one, template["spec"], container)
            text = subprocess.run([binary, role, "--help"], check=True, capture_output=True, text=True).stdout
            known = set(re.findall(r"\[env:\s+(TALLY_\w+)\b", text))
            check(container["args"][0] == role, f"{role}: starts {container['args']}")
            for argument in container["args"][1:]:
                check(re.search(re.escape(argument.split("=")[0]) + r"\s", text), f"{role} has no {argument}")
            for variable in container["env"]:
                check(variable["name"] in known, f"{role} has no {variable['name']}")
            needed = {"TALLY_LOG", "TALLY_LISTEN", "TALLY_TOPOLOGY"}
            needed |= {"TALLY_STATE"} if role in ("process", "sink") else {"TALLY_CACHE"}
            needed |= {"TALLY_DATABASE", "TALLY_CACHE"} if role in ("sink", "api") else set()
            check(needed <= {variable["name"] for variable in container["env"]}, f"{role}: lacks one of {needed}")
    check(sorted(pods) == sorted(ROLES), f"roles are {sorted(pods)}")
    return pods


def pod(role, spec, container):
    port = {port["name"]: port["containerPort"] for port in container["ports"]}
    listen = next(variable["value"] for variable in container["env"] if variable["name"] == "TALLY_LISTEN")
    check(listen == f"0.0.0.0:{port['http']}", f"{role} listens on {listen}")
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    check(all(probe["port"] == "http" for probe in probes.values()), f"{role}: a probe has another port")
    sleep_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    check(spec["terminationGracePeriodSeconds"] > sleep_s + STOP_S, f"{role}: SIGKILL comes before SIGTERM is done")
    check(role not in ("ingest", "api") or sleep_s > 0, f"{role}: closes its port before the Service notices")
    own = container["securityContext"]
    check(own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"] and own["capabilities"] == {"drop": ["ALL"]},
          f"{role}: securityContext")
    of_pod = spec["securityContext"]
    check(of_pod["runAsNonRoot"] and of_pod["seccompProfile"] == {"type": "RuntimeDefault"}, f"{role}: securityContext")
    user = re.search(r"useradd .*--uid (\d+)", (ROOT / "deploy" / "Dockerfile").read_text()).group(1)
    check(of_pod["runAsUser"] == int(user), f"{role}: the image's user is {user}")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claimed = {"data"} if role in ("process", "sink") else set()
    check(mounted == {volume["name"] for volume in spec["volumes"]} | claimed, f"{role}: mounts {mounted}")
    return {probe["path"] for probe in probes.values()} | {"/metrics"}


def selects(selector, labels):
    return selector.items() <= labels.items()


def manifests(documents, binary):
    named = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    check(len(named) == len(documents), "two objects have one name")
    pods = variables(documents, binary)
    paths = set()
    for role, (one, spec, container) in pods.items():
        name = one["metadata"]["name"]
        labels = one["spec"]["template"]["metadata"]["labels"]
        check(selects(one["spec"]["selector"]["matchLabels"], labels), f"{role}: the selector selects other pods")
        for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            rule = named[kind, name]["spec"]
            selector = rule.get("podSelector", rule.get("selector"))
            check(selects(selector.get("matchLabels", selector), labels), f"{kind} {name} selects other pods")
        check(one["kind"] == ("Deployment" if role in ("ingest", "api") else "StatefulSet"), f"{role} is a {one['kind']}")
        if one["kind"] == "StatefulSet":
            check(named["Service", one["spec"]["serviceName"]]["spec"]["clusterIP"] == "None", f"{role}: no headless Service")
        else:
            scaler = named["HorizontalPodAutoscaler", name]["spec"]
            target = scaler["metrics"][0]["resource"]["target"]["averageUtilization"]
            check((scaler["minReplicas"], scaler["maxReplicas"], target) == (4, 20, 60), f"{role}: scales {scaler}")
            check("replicas" not in one["spec"], f"{role}: replicas beside a HorizontalPodAutoscaler")
        carried = one["spec"]["template"]["metadata"]["annotations"]["checksum/topology"]
        check(carried == checksum(), f"{role}: the topology has changed: deploy/kubernetes.sh render")
        paths |= pod(role, spec, container)
    topology = named["ConfigMap", "tally-topology"]["data"]["topology.yaml"]
    check(topology.strip() == TOPOLOGY.read_text().strip(), "the ConfigMap is not topology.yaml: deploy/kubernetes.sh render")
    serves(binary, paths)


def serves(binary, paths):
    """A process answers all of these paths with 200."""
    with tempfile.TemporaryDirectory() as directory:
        command = [binary, "run", "--listen", "127.0.0.1:0"]
        with open(f"{directory}/log", "w") as log:
            tally = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while not (found := re.search(r"^listening on (\S+)", Path(directory, "log").read_text(), re.M)):
                check(tally.poll() is None and time.monotonic() < until, Path(directory, "log").read_text())
                time.sleep(0.05)
            for path in sorted(paths):
                while (status := code(found.group(1) + path)) == 503 and time.monotonic() < until:
                    time.sleep(0.05)
                check(status == 200, f"{path} answers {status}")
        finally:
            tally.terminate()
            tally.wait()


def code(address):
    try:
        return urllib.request.urlopen(address, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    if sys.argv[1:] == ["digest"]:
        print(digest())
        return
    if sys.argv[1:] == ["topology"]:
        put_topology()
        return
    import yaml
    what, binary = sys.argv[1:]
    if what == "variables":
        variables([one for one in yaml.safe_load_all(sys.stdin) if one], binary)
        return
    text = MANIFESTS.read_text()
    check(f"# chart: {digest()}\n" in text, "the chart has changed: deploy/kubernetes.sh render")
    manifests([one for one in yaml.safe_load_all(text) if one], binary)


if __name__ == "__main__":
    main()
