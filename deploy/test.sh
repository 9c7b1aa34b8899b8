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

# Budgets are for two cores and an empty cache; together they stay below an hour.
stage "setup" 60 make --no-print-directory setup
stage "formatting" 30 cargo fmt --all --check
stage "lints" 900 cargo clippy --workspace --all-targets -- -D warnings
stage "build" 1200 cargo test --workspace --all-targets --no-run
stage "tests" 1200 cargo test --workspace --lib --bins --tests
echo "=== all stages: ${SECONDS} s"
