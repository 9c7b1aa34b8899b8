#!/usr/bin/env bash
# Copies a binary to a folder without its debugging symbols, and those into a file beside it, where backtraces and
# debuggers find them.
#
#   symbols.sh BINARY FOLDER     writes FOLDER/<name> and FOLDER/<name>.debug
set -euo pipefail

binary=$1 folder=$2
name=$(basename "$binary")
mkdir -p "$folder"
objcopy --only-keep-debug --compress-debug-sections "$binary" "$folder/$name.debug"
# It keeps the names of functions. The link is made within the folder, so that it names the file alone.
objcopy --strip-debug "$binary" "$folder/$name"
(cd "$folder" && objcopy --add-gnu-debuglink="$name.debug" "$name")
ls -lh "$folder/$name" "$folder/$name.debug" | awk '{print $NF ": " $5 "B"}'
