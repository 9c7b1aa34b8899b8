#!/usr/bin/env bash
# Checks a running tally against its /openapi.json with Schemathesis: no answer may be a 5xx, or differ from its
# description in status, media type, headers or body.
#
#   schema.sh [SECONDS]    the tally that TALLY_BINARY names, in a directory of its own; with SECONDS again and again, with
#                          other requests each time, until they have passed
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
binary=$(realpath "${TALLY_BINARY:-$root/target/debug/tally}")
until_s=$((SECONDS + ${1:-0}))

tools=$("$here/pinned.sh" schemathesis)

dir=$(mktemp -d)
cp "$root/topology.yaml" "$dir/"
# What Schemathesis has found is printed last.
end() {
  local code=$?
  kill "$tally" 2>/dev/null && wait "$tally" || true
  if ((code != 0)); then
    if [[ -n ${TALLY_TEST_LOGS:-} ]]; then
      cp "$dir/log" "$TALLY_TEST_LOGS/schema.log"
      echo "logs of processes: $TALLY_TEST_LOGS/schema.log" >&2
    else
      tail -n 20 "$dir/log" >&2
    fi
    [[ ! -f $dir/said ]] || cat "$dir/said"
  fi
  rm -rf "$dir"
}
(cd "$dir" && exec "$binary" run --demo 20 --listen 127.0.0.1:0) >"$dir/log" 2>&1 &
tally=$!
trap end EXIT
until address=$(sed -n 's/^listening on //p' "$dir/log") && [[ -n $address ]]; do
  kill -0 "$tally" || { echo "schema: tally has ended" >&2; exit 1; }
  sleep 0.1
done

# Streams do not end, so that they are not asked for here; the tests of the API hold them against their description.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks=$checks,response_schema_conformance
while :; do
  (cd "$dir" && "$tools/bin/st" run "$address/openapi.json" --max-examples 12 --phases examples,coverage,fuzzing \
    --checks "$checks" --request-timeout 20 --suppress-health-check all --exclude-path /v1/live --no-color) >"$dir/said"
  grep -E 'generated|Seed' "$dir/said" | tr -s ' \n' ' '
  echo
  ((SECONDS < until_s)) || break
done
echo "schema: the API is as it is described"
