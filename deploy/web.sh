#!/usr/bin/env bash
# The page in web/: built where Node is, and tested in a real Chromium.
#
#   web.sh build     builds web/dist where something has changed; without Node it only prints a message web.sh check
#   types and unit tests web.sh browser   the page and the console in Chromium, against the tally that TALLY_BINARY
#   names; prints a line
#                    that begins with `browser:`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../web"

node_min=20.19.0

say() { printf 'web: %s\n' "$*" >&2; }

has_node() {
  command -v npm >/dev/null && command -v node >/dev/null &&
    [[ $(printf '%s\n' "$node_min" "$(node --version | tr -d v)" | sort -V | head -n 1) == "$node_min" ]]
}

need_node() {
  has_node && return
  say "this needs Node $node_min or newer, with npm"
  exit 1
}

# Fetches what package-lock.json names, where that is not what is there.
fetch() {
  local lock
  lock=$(sha256sum package-lock.json)
  [[ $(cat node_modules/.fetched 2>/dev/null) == "$lock" ]] && return
  say "npm fetches what the page is built with"
  npm ci --no-progress --loglevel=error >&2
  printf '%s\n' "$lock" >node_modules/.fetched
}

# One line that changes with everything that the build reads.
sources() {
  find index.html console public src vite.config.ts package-lock.json -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum
}

build() {
  local now
  now=$(sources)
  [[ $(cat dist/.built 2>/dev/null) == "$now" ]] && return
  fetch
  npm run --silent build -- --logLevel warn
  printf '%s\n' "$now" >dist/.built
  say "built web/dist"
}

case ${1:-} in
  build)
    if has_node; then
      build
    else
      say "no Node $node_min or newer: the page is not built, and a plain one is served in its place"
    fi
    ;;
  check)
    need_node
    fetch
    npm run --silent check
    ;;
  browser)
    need_node
    fetch
    build
    npm run --silent browser
    ;;
  *)
    sed -n '/^#   web.sh/,/^set/s/^# \{0,3\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
