#!/usr/bin/env bash
# What `make test` runs, stage by stage; prints how long each took. Stops at the first stage that fails, and then prints
# last which tests failed, with their messages and with the files that have the logs.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=1

# Output of the stages, and logs of services and processes where tests failed. Those of the last few runs are kept.
all_logs=${TALLY_TEST_LOGS_DIR:-${CARGO_TARGET_DIR:-target}/test-logs}
runs_kept=5
mkdir -p "$all_logs"
all_logs=$(cd "$all_logs" && pwd)
logs=$(mktemp -d "$all_logs/$(date +%Y%m%d-%H%M%S).XXXX")
# Where tests keep the logs of the processes that they started.
export TALLY_TEST_LOGS=$logs/processes
mkdir "$TALLY_TEST_LOGS" "$logs/services"
# The logs of this run only.
services_dir=$(mktemp -d)
failed=

stage() {
  local name=$1 budget_s=$2 start=$SECONDS
  shift 2
  echo "=== $name"
  # Until it has ended well it is the one that failed.
  failed=$name
  "$@" 2>&1 | tee "$logs/$name.log"
  failed=
  echo "=== $name: $((SECONDS - start)) s (budget ${budget_s} s)"
}

# Their addresses go into the environment of the tests.
use_services() {
  set -a
  # shellcheck disable=SC1091
  source "$services_dir/env"
  set +a
  # A test that finds no address now fails; otherwise it reports that it was skipped.
  export TALLY_TEST_SERVICES=required
  if [[ -n ${TALLY_TEST_MYSQL:-} ]]; then
    echo "database: MySQL ${TALLY_TEST_MYSQL_VERSION:-at TALLY_TEST_MYSQL} beside MariaDB"
  else
    echo "skipped: MySQL (it could not be fetched here; TALLY_TEST_MYSQL=mysql://… names one of yours)"
  fi
}

# The page in a real Chromium, against the binary that the build has left.
browser() {
  deploy/web.sh check
  TALLY_BINARY=${CARGO_TARGET_DIR:-target}/debug/tally deploy/web.sh browser
}

end() {
  local code=$?
  trap - EXIT
  deploy/services.sh stop "$services_dir" || true
  if ((code == 0)); then
    rm -rf "$logs"
  else
    # Where it has come so far.
    cp "$services_dir"/*.log "$logs/services/" 2>/dev/null || true
  fi
  rm -rf "$services_dir"
  # The oldest first, by their names. None is left where this run passed and is the first.
  find "$all_logs" -mindepth 1 -maxdepth 1 -type d -print0 | sort -z | head -z -n -"$runs_kept" | xargs -r -0 rm -rf || true
  ((code == 0)) || [[ -z $failed ]] || deploy/failures.sh "$logs" "$failed" || true
  exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Budgets are for two cores and an empty cache; together they stay below an hour.
stage "setup" 120 make --no-print-directory setup
stage "formatting" 10 cargo fmt --all --check
stage "protos" 30 deploy/protos.sh
stage "lints" 600 cargo clippy --workspace --all-targets -- -D warnings
# What `make run` builds. By hand, `cargo test -p tally --no-default-features --lib features` tests what it refuses.
stage "lints without features" 90 cargo clippy -p tally --no-default-features --bin tally -- -D warnings
# The lints have seen benchmarks and examples; no test runs them, so that they are not compiled once more.
stage "build" 980 cargo test --workspace --lib --bins --tests --no-run
stage "browser" 150 browser
stage "schema" 60 env TALLY_BINARY="${CARGO_TARGET_DIR:-target}/debug/tally" deploy/schema.sh
stage "clients" 150 env TALLY_BINARY="${CARGO_TARGET_DIR:-target}/debug/tally" deploy/clients.sh
stage "kubernetes" 30 env TALLY_BINARY="${CARGO_TARGET_DIR:-target}/debug/tally" deploy/kubernetes.sh
# Every article has exactly the likes that were sent; how fast that was is not judged.
stage "load" 30 python3 deploy/load/load.py --seconds 1 --likes 500 --binary "${CARGO_TARGET_DIR:-target}/debug/tally"
stage "observability" 90 env TALLY_BINARY="${CARGO_TARGET_DIR:-target}/debug/tally" deploy/observe.sh
stage "package" 50 deploy/package.sh test "${CARGO_TARGET_DIR:-target}/debug/tally"
stage "services" 60 deploy/services.sh start "$services_dir"
use_services
stage "tests" 1140 cargo test --workspace --lib --bins --tests --no-fail-fast
echo "=== all stages: ${SECONDS} s"
