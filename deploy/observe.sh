#!/usr/bin/env bash
# Checks the alerts of deploy/prometheus and the dashboards of deploy/grafana: promtool runs the unit tests of the rules, and
# a real Prometheus reads live processes, where no expression may be empty.
#
#   observe.sh    the tally that TALLY_BINARY names: everything in one process, and where Kafka, MariaDB and Redis are
#                 installed the four roles on them; ends with a line that begins with `observe:`
#
# Needs prometheus, promtool (`make setup` installs them) and Python 3.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
binary=$(realpath "${TALLY_BINARY:-$root/target/debug/tally}")

say() { printf 'observe: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null; }
for needed in prometheus promtool python3; do has "$needed" || { say "no $needed: make setup"; exit 1; }; done

cd "$here/prometheus"
promtool check rules --lint=all --lint-fatal rules.yml
promtool check config prometheus.yml
promtool test rules rules.test.yml
python3 "$here/grafana/dashboards.py" --check

dir=$(mktemp -d)
cp "$root/topology.yaml" "$here/prometheus/rules.yml" "$dir/"
declare -A pids
services=
end() {
  local code=$? pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [[ -z $services ]] || "$here/services.sh" stop "$services" || true
  if ((code != 0)); then
    if [[ -n ${TALLY_TEST_LOGS:-} ]]; then cp "$dir"/*.log "$TALLY_TEST_LOGS/"; else tail -n 5 "$dir"/*.log >&2; fi
    # The reason is printed last.
    [[ ! -f $dir/reason ]] || cat "$dir/reason" >&2
  fi
  rm -rf "$dir"
}
trap end EXIT

# start NAME COMMAND…
start() {
  local name=$1
  shift
  (cd "$dir" && exec "$@") >"$dir/$name.log" 2>&1 &
  pids[$name]=$!
}

ended() { { echo "observe: $1 has ended:"; tail -n 5 "$dir/$1.log"; } >"$dir/reason"; }

# Prints the address of a process once it listens.
address_of() {
  local address
  until address=$(sed -n 's/^listening on //p' "$dir/$1.log") && [[ -n $address ]]; do
    kill -0 "${pids[$1]}" 2>/dev/null || { ended "$1"; return 1; }
    sleep 0.1
  done
  echo "$address"
}

start run "$binary" run --demo 20 --listen 127.0.0.1:0
run=$(address_of run)
targets=("$run")
writers=("$run")
readers=("$run")
if [[ -d $("$here/services.sh" jars) ]] && has mariadbd && has redis-server; then
  services=$dir/services
  "$here/services.sh" start "$services" kafka mariadb redis >/dev/null
  # shellcheck disable=SC1091
  source "$services/env"
  log=(--log "kafka://$TALLY_TEST_KAFKA" --listen 127.0.0.1:0)
  stores=(--database "$TALLY_TEST_MARIADB" --cache "$TALLY_TEST_REDIS")
  start ingest "$binary" ingest "${log[@]}" --cache "$TALLY_TEST_REDIS"
  start process "$binary" process "${log[@]}" --state "$dir/process"
  start sink "$binary" sink "${log[@]}" "${stores[@]}" --state "$dir/sink"
  start api "$binary" api "${log[@]}" "${stores[@]}"
  for role in ingest process sink api; do targets+=("$(address_of "$role")"); done
  writers+=("${targets[1]}")
  readers+=("${targets[4]}")
  start demo "$binary" demo --to "${targets[1]}" --rate 50
else
  say "skipped: expressions that need Kafka (make setup)"
fi

list() { printf "'%s'," "${@#http://}"; }
cat >"$dir/prometheus.yml" <<END
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
scrape_configs:
  - { job_name: tally, static_configs: [{ targets: [$(list "${targets[@]}")] }] }
END
start prometheus prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/prometheus" \
  --web.listen-address=127.0.0.1:0
until prometheus=$(sed -n 's/.*msg="Listening on".* address=\(127[0-9.:]*\).*/\1/p' "$dir/prometheus.log") && [[ -n $prometheus ]]; do
  kill -0 "${pids[prometheus]}" 2>/dev/null || { ended prometheus; exit 1; }
  sleep 0.1
done
python3 "$here/observe.py" "http://$prometheus" "${writers[*]}" "${readers[*]}" ${services:+kafka} 2>"$dir/reason"
