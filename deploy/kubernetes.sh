#!/usr/bin/env bash
# Renders and checks the manifests of Kubernetes.
#
#   kubernetes.sh render    writes deploy/kubernetes/tally.yaml from the chart; needs Helm 3, unless only topology.yaml has
#                           changed
#   kubernetes.sh           checks that file against the chart and against the tally that TALLY_BINARY names: every flag,
#                           variable and path; where they are installed also Helm (lint, the same output, refused values),
#                           kubeconform and kube-score; ends with a line that begins with `kubernetes:`
#
# kubeconform takes its schemas from TALLY_KUBE_SCHEMAS, a directory, or fetches them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
chart=$here/helm/tally
manifests=$here/kubernetes/tally.yaml
kubernetes=1.34.0

has() { command -v "$1" >/dev/null; }
die() {
  echo "kubernetes: $*" >&2
  exit 1
}

# Helm reports that the chart's files of this repository are symbolic links.
template() { helm template tally "$chart" --kube-version "$kubernetes" "$@" 2> >(grep -v 'found symbolic link' >&2); }

rendered() {
  cat <<END
# The chart of deploy/helm/tally with its defaults, for clusters without Helm: \`deploy/kubernetes.sh render\`. Change image,
# addresses and names of Secrets by an overlay of Kustomize.
# chart: $(python3 "$here/kubernetes/check.py" digest)
END
  template
}

if [[ ${1:-} == render ]]; then
  has helm || exec python3 "$here/kubernetes/check.py" topology
  rendered >"$manifests.new"
  mv "$manifests.new" "$manifests"
  exit
fi

binary=$(realpath "${TALLY_BINARY:-$root/target/debug/tally}")
python=python3
if ! python3 -c 'import yaml' 2>/dev/null; then
  python=$("$here/pinned.sh" kubernetes)/bin/python
fi
checked=(manifests)
"$python" "$here/kubernetes/check.py" manifests "$binary"

# refused TEXT ARGUMENT…: these values are refused with that text.
refused() {
  local wanted=$1 said
  shift
  if said=$(template "$@" 2>&1 >/dev/null); then die "not refused: $*"; fi
  [[ $said == *"$wanted"* ]] || die "$*: $said"
}

everything=(--set process.keda.enabled=true --set sink.keda.enabled=true --set podMonitor.enabled=true
  --set podMonitor.keySecret.name=metrics --set prometheusRule.enabled=true --set auth.jwks.url=https://id.example/jwks
  --set log.propertiesSecret.name=kafka --set database.readSecret.name=replica --set cache.readSecret.name=replica
  --set api.peerKeySecret.name=peers --set 'trustedProxies={10.0.0.0/8}')
if has helm; then
  helm lint --strict "$chart" --kube-version "$kubernetes" 2> >(grep -v 'found symbolic link' >&2)
  diff <(rendered) "$manifests" || die "deploy/kubernetes.sh render"
  refused 'both enabled' --set process.hpa.enabled=true --set process.keda.enabled=true
  refused 'both enabled' --set sink.hpa.enabled=true --set sink.keda.enabled=true
  refused 'the most that the partitions occupy' --set process.keda.enabled=true --set process.keda.minReplicas=5
  refused 'auth.openToEveryone' --set auth.keysSecret.name=
  refused 'has no effect' --set auth.openToEveryone=true
  refused "does not match pattern" --set log.url=embedded:data
  refused "'proces' not allowed" --set proces.replicas=2
  # 8 partitions by 2 threads, by 3 threads, and for the sink.
  [[ $(template "${everything[@]}" | grep -c 'maxReplicaCount: [48]$') == 2 ]] || die "KEDA's maximum"
  [[ $(template "${everything[@]}" --set process.threads=3 | grep -c 'maxReplicaCount: [38]$') == 2 ]] || die "KEDA's maximum"
  other=$(template --set-file topology=<(sed 's/late_after: .*/late_after: 1h/' "$root/topology.yaml"))
  [[ $(grep checksum/ <<<"$other" | sort -u) != "$(grep checksum/ "$manifests" | sort -u)" ]] ||
    die "another topology does not replace the pods"
  template "${everything[@]}" | "$python" "$here/kubernetes/check.py" variables "$binary"
  checked+=(Helm)
else
  echo "skipped: helm lint and helm template (no Helm)"
fi
if has kubeconform; then
  conform=(kubeconform -strict ${TALLY_KUBE_SCHEMAS:+-schema-location "$TALLY_KUBE_SCHEMAS/{{.ResourceKind}}{{.KindSuffix}}.json"})
  "${conform[@]}" "$manifests"
  # The schemas of operators are not among those that it fetches.
  if has helm && [[ -n ${TALLY_KUBE_SCHEMAS:-} ]]; then template "${everything[@]}" | "${conform[@]}"; fi
  checked+=(kubeconform)
else
  echo "skipped: kubeconform (not installed)"
fi
if has kube-score; then
  # No limit of CPU: throttled stream threads miss their sessions. Tags are of releases. Pods are spread by
  # topologySpreadConstraints.
  kube-score score --output-format ci --ignore-container-cpu-limit --ignore-test container-image-pull-policy \
    --ignore-test deployment-has-host-podantiaffinity --ignore-test statefulset-has-host-podantiaffinity "$manifests" |
    { ! grep -v '^\[\(OK\|SKIPPED\)\]'; }
  checked+=(kube-score)
else
  echo "skipped: kube-score (not installed)"
fi
echo "kubernetes: ${checked[*]}: well"
