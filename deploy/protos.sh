#!/usr/bin/env bash
# Lints the .proto files with buf, and compares them with those of the main branch: no change may break a client.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

tools=$("$here/pinned.sh" buf)
"$tools/bin/buf" lint "$root/proto"

# On the main branch itself, what is not committed yet is compared with what is.
git() { command git -C "$root" "$@" 2>/dev/null; }
if ! released=$(git merge-base HEAD origin/main || git rev-parse HEAD); then
  echo "skipped: buf breaking (not a git repository)"
  exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
git archive "$released" proto | tar -x -C "$dir"
"$tools/bin/buf" breaking "$root/proto" --against "$dir/proto"
echo "protos: the .proto files keep the rules of buf, and break no client of ${released:0:12}"
