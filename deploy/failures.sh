#!/usr/bin/env bash
# Prints the failed tests from the output of a stage of deploy/test.sh: the name and message of each, and the files that
# have the logs of its processes.
#
#   failures.sh DIR STAGE    DIR/STAGE.log has the output, DIR/services and DIR/processes have logs
set -euo pipefail
logs=$1 stage=$2
log=$logs/$stage.log

# From libtest: `---- NAME stdout ----`, and below it the panics of the test, each until its backtrace.
of_cargo() {
  awk '
    /^ +Running / { target = $0; sub(/^ +Running (unittests )?/, "", target); sub(/ \(.*/, "", target) }
    /^---- .* stdout ----$/ { name = $0; sub(/^---- /, "", name); sub(/ stdout ----$/, "", name); printf "\nFAILED %s: %s\n", target, name; within = 1; shows = 0; next }
    /^failures:$/ || /^test result: / { within = 0; shows = 0 }
    !within { if (/\(signal: [0-9]+, /) { sub(/^ +/, ""); printf "\nFAILED %s: it did not end by itself\n  %s\n", target, $0 } next }
    /^thread .* panicked at / { shows = 1 }
    /^stack backtrace:$/ || /^note: / { shows = 0 }
    /^logs of processes: / { shows = 0; print "  " $0 }
    shows && NF { print "  " $0 }
  ' "$log"
}

# From vitest: ` FAIL  FILE > NAME`, the error and where it was, up to a rule.
of_browser() {
  # Without colours.
  sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '/^ FAIL / { shows = 1; sub(/^ FAIL +/, "\nFAILED ") } /^⎯/ { shows = 0 } shows'
}

found=
case $stage in
  tests) found=$(of_cargo) ;;
  browser) found=$(of_browser) ;;
esac
echo
echo "=== $stage failed; all of its output: $log"
[[ -z $(ls -A "$logs/services" 2>/dev/null) ]] || echo "logs of the services: $logs/services"
[[ -z $(ls -A "$logs/processes" 2>/dev/null) ]] || echo "logs of the processes that tests started: $logs/processes"
if [[ -n $found ]]; then
  printf '%s\n' "$found"
else
  # The last output of a compiler or a script is the reason.
  tail -n 40 "$log"
fi
