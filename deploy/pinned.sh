#!/usr/bin/env bash
# Prints a folder with the Python tools that deploy/NAME.txt pins, apart from whatever Python there is; pip fetches them
# where they are not there yet. TALLY_<NAME>_DIR names another folder.
#
#   pinned.sh NAME
set -euo pipefail
name=$1
pins=$(dirname "${BASH_SOURCE[0]}")/$name.txt
other=TALLY_${name^^}_DIR
tools=${!other:-$HOME/.cache/tally/$name-$(sha256sum "$pins" | cut -c 1-12)}
if [[ ! -f $tools/whole ]]; then
  echo "pip fetches what $name.txt pins" >&2
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$pins"
  touch "$tools/whole"
fi
echo "$tools"
