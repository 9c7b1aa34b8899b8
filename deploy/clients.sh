#!/usr/bin/env bash
# Holds /openapi.json against what strangers make of it: Redocly and Spectral find no error, and clients that
# openapi-typescript, openapi-python-client and oapi-codegen generate post, batch and read, without an edit.
#
#   clients.sh    the tally that TALLY_BINARY names, in a directory of its own; ends with a line that begins with `clients:`
#
# What is not there is named and left out: Node, Python, Go.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
binary=$(realpath "${TALLY_BINARY:-$root/target/debug/tally}")
cache=${TALLY_CLIENTS_DIR:-$HOME/.cache/tally/clients}

say() { printf 'clients: %s\n' "$*" >&2; }

# Everything pinned, and apart from whatever there is: fetched again where what names it has changed.
fetched() { [[ $(cat "$1/.fetched" 2>/dev/null) == "$(cat "${@:2}" | sha256sum)" ]]; }
note() { cat "${@:2}" | sha256sum >"$1/.fetched"; }

has_node() { command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null; }

# As go.mod has it; nothing is fetched in place of an older one.
go_min=1.26
has_go() { command -v go >/dev/null && [[ $(printf '%s\n' "$go_min" "$(GOTOOLCHAIN=local go env GOVERSION | tr -d go)" | sort -V | head -n 1) == "$go_min" ]]; }

dir=$(mktemp -d)
cp "$root/topology.yaml" "$dir/"
: >"$dir/log"
tally=
end() {
  local code=$?
  [[ -z $tally ]] || { kill "$tally" 2>/dev/null && wait "$tally" || true; }
  ((code == 0)) || tail -n 20 "$dir/log" >&2
  rm -rf "$dir"
}
trap end EXIT
(cd "$dir" && exec "$binary" run --listen 127.0.0.1:0) >"$dir/log" 2>&1 &
tally=$!
until address=$(sed -n 's/^listening on //p' "$dir/log") && [[ -n $address ]]; do
  kill -0 "$tally" || { say "tally has ended"; exit 1; }
  sleep 0.1
done
node_of() { (cd "$cache/node" && "$@"); }
description=$dir/openapi.json
curl -sf "$address/openapi.json" >"$description"
done=()

# A command whose words matter only where it fails.
quietly() { "$@" >"$dir/said" 2>&1 || { cat "$dir/said" >&2; say "failed: $*"; exit 1; }; }

typescript() {
  local tools=$cache/node
  mkdir -p "$tools"
  cp "$here"/clients/{package.json,package-lock.json,.npmrc,client.ts,tsconfig.json,redocly.yaml,spectral.yaml} "$tools/"
  if ! fetched "$tools" "$here/clients/package-lock.json"; then
    say "npm fetches Redocly, Spectral and openapi-typescript"
    quietly node_of npm ci --ignore-scripts --no-progress
    note "$tools" "$here/clients/package-lock.json"
  fi
  local bin=$tools/node_modules/.bin
  quietly node_of env REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true "$bin/redocly" lint "$description" --config redocly.yaml
  quietly node_of "$bin/spectral" lint "$description" --ruleset spectral.yaml --fail-severity warn
  done+=("Redocly" "Spectral")
  quietly node_of "$bin/openapi-typescript" "$description" --output tally.d.ts
  quietly node_of "$bin/tsc" --outDir made
  quietly node_of node made/client.js "$address"
  done+=("TypeScript")
}

python() {
  local tools=$cache/python made=$dir/python
  if ! fetched "$tools" "$here/clients.txt"; then
    say "pip fetches openapi-python-client"
    rm -rf "$tools"
    python3 -m venv "$tools"
    quietly "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/clients.txt"
    note "$tools" "$here/clients.txt"
  fi
  mkdir "$made"
  quietly env PATH="$tools/bin:$PATH" "$tools/bin/openapi-python-client" generate --path "$description" \
    --output-path "$made/tally" --meta none --config "$here/clients/python.yaml"
  quietly env PYTHONPATH="$made" "$tools/bin/python" "$here/clients/client.py" "$address"
  done+=("Python")
}

go_client() {
  local made=$cache/go
  mkdir -p "$made/tally"
  cp "$here"/clients/go/{go.mod,go.sum,main.go} "$made/"
  go_of() { (cd "$made" && env GOFLAGS=-mod=readonly GOTOOLCHAIN=local go "$@"); }
  quietly go_of tool oapi-codegen -generate types,client -package tally -o tally/tally.gen.go "$description"
  quietly go_of run . "$address"
  done+=("Go")
}

if has_node; then typescript; else echo "skipped: Redocly, Spectral and a client in TypeScript (no Node 20 or newer, with npm)"; fi
if python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python; else echo "skipped: a client in Python (no Python 3.11 or newer, with venv)"; fi
if has_go; then go_client; else echo "skipped: a client in Go (no Go $go_min or newer)"; fi
echo "clients: the description works for ${done[*]:-no installed client}"
