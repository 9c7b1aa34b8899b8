#!/usr/bin/env bash
# What `make test` runs, stage by stage; prints how long each took. Stops at the first stage that fails.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=1

stage() {
  local name=$1 budget_s=$2 start=$SECONDS
  shift 2
  echo "=== $name"
  "$@"
  echo "=== $name: $((SECONDS - start)) s (budget ${budget_s} s)"
}

end_services() {
  local code=$?
  deploy/services.sh stop "$services_dir"
  ((code == 0)) || tail -n 20 "$services_dir"/*.log
  rm -rf "$services_dir"
}

# Services of this run alone, and their addresses in the environment of the tests.
services() {
  services_dir=$(mktemp -d)
  trap end_services EXIT
  deploy/services.sh start "$services_dir"
  set -a
  # shellcheck disable=SC1091
  source "$services_dir/env"
  set +a
  # A test that finds no address now fails; elsewhere it says that it was skipped.
  export TALLY_TEST_SERVICES=required
  [[ -n ${TALLY_TEST_MYSQL:-} ]] || echo "skipped: MySQL 8 (set TALLY_TEST_MYSQL=mysql://… to test against one)"
}

# The page in a real Chromium, against the binary that the build has left.
browser() {
  deploy/web.sh check
  TALLY_BINARY=${CARGO_TARGET_DIR:-target}/debug/tally deploy/web.sh browser
}

# Budgets are for two cores and an empty cache; together they stay below an hour.
stage "setup" 120 make --no-print-directory setup
stage "formatting" 30 cargo fmt --all --check
stage "lints" 810 cargo clippy --workspace --all-targets -- -D warnings
# The lints have seen benchmarks and examples; no test runs them, so that they are not compiled once more.
stage "build" 1140 cargo test --workspace --lib --bins --tests --no-run
stage "browser" 180 browser
stage "schema" 90 env TALLY_BINARY="${CARGO_TARGET_DIR:-target}/debug/tally" deploy/schema.sh
stage "services" 60 services
stage "tests" 1140 cargo test --workspace --lib --bins --tests --no-fail-fast
echo "=== all stages: ${SECONDS} s"
