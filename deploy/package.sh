#!/usr/bin/env bash
# Builds a Debian package of a binary: with its manual pages, completions, the topology, the page if it is built, a
# systemd unit and the list of crates. The same input gives the same bytes.
#
#   package.sh build BINARY FOLDER    writes FOLDER/tally_<version>_<architecture>.deb and, with the symbols, a -dbgsym.deb
#   package.sh test BINARY            builds it twice, checks the unit, unpacks it and starts what it contains
set -euo pipefail
cd "$(dirname "$0")/.."

# Of everything in the package: the time of the last commit, or that of a release tarball's maker.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

# Root's files with plain modes, whatever the umask is.
pack() {
  local tree=$1 file=$2
  find "$tree" -exec chmod u=rwX,go=rX {} +
  find "$tree" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zzstd -z9 --build "$tree" "$file" >/dev/null
}

control() {
  local tree=$1 name=$2 depends=$3 about=$4
  mkdir -p "$tree/DEBIAN"
  cat > "$tree/DEBIAN/control" <<EOF
Package: $name
Version: $version
Architecture: $architecture
Maintainer: tally
Section: net
Priority: optional
Installed-Size: $(find "$tree" -path "$tree/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ bytes += $1 } END { print int(bytes / 1024) + 1 }')
Depends: $depends
Description: $about
EOF
}

build() {
  local binary=$1 folder=$2 work tree
  version=$("$binary" --version | head -1 | cut -d' ' -f2)
  architecture=$(dpkg --print-architecture)
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  tree=$work/tally
  mkdir -p "$folder" "$tree"/{usr/bin,usr/lib/systemd/system,usr/share/man/man1,usr/share/tally,usr/share/doc/tally,etc/tally,etc/default}
  deploy/symbols.sh "$binary" "$work/stripped" >/dev/null
  install -m 755 "$work/stripped/tally" "$tree/usr/bin/tally"
  "$binary" man "$tree/usr/share/man/man1"
  gzip -9n "$tree"/usr/share/man/man1/*.1
  mkdir -p "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
  "$binary" completions bash > "$tree/usr/share/bash-completion/completions/tally"
  "$binary" completions zsh > "$tree/usr/share/zsh/vendor-completions/_tally"
  "$binary" completions fish > "$tree/usr/share/fish/vendor_completions.d/tally.fish"
  if [[ -d web/dist ]]; then
    cp -r web/dist "$tree/usr/share/tally/web"
  fi
  cp topology.yaml "$tree/etc/tally/topology.yaml"
  cp deploy/debian/default "$tree/etc/default/tally"
  cp deploy/debian/tally.service "$tree/usr/lib/systemd/system/"
  echo 'License: Apache-2.0' > "$tree/usr/share/doc/tally/copyright"
  python3 deploy/sbom.py > "$tree/usr/share/doc/tally/sbom.cdx.json"
  gzip -9n "$tree/usr/share/doc/tally/sbom.cdx.json"
  # libgcc and libc are all that it links to.
  control "$tree" tally "libc6 (>= 2.36), libgcc-s1, ca-certificates" "counters and rankings of user actions, exact after every crash"
  printf '%s\n' /etc/default/tally /etc/tally/topology.yaml > "$tree/DEBIAN/conffiles"
  pack "$tree" "$folder/tally_${version}_$architecture.deb"

  mkdir -p "$work/symbols/usr/lib/debug/usr/bin"
  install -m 644 "$work/stripped/tally.debug" "$work/symbols/usr/lib/debug/usr/bin/tally.debug"
  control "$work/symbols" tally-dbgsym "tally (= $version)" "debugging symbols of tally"
  pack "$work/symbols" "$folder/tally-dbgsym_${version}_$architecture.deb"
  ls -l "$folder"/*.deb | awk '{print $NF ": " $5 " bytes"}'
}

check_unit() {
  local root=$1 unit=usr/lib/systemd/system/tally.service
  if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: systemd-analyze is not here, so the unit is not checked"
    return
  fi
  # The rest of the system is not there.
  local found
  found=$(systemd-analyze verify --man=no --root="$root" --recursive-errors=no "$root/$unit" 2>&1) || true
  if grep tally.service <<<"$found"; then
    return 1
  fi
  systemd-analyze security --offline=true --threshold=20 "$root/$unit" | tail -1
}

run_test() {
  local binary=$1 work pid url
  work=$(mktemp -d)
  pid=
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  (umask 022 && build "$binary" "$work/one")
  (umask 077 && build "$binary" "$work/two" >/dev/null)
  for package in "$work"/one/*.deb; do
    cmp "$package" "$work/two/$(basename "$package")"
  done
  echo "the same bytes twice"
  dpkg-deb -x "$work"/one/tally_*.deb "$work/root"
  dpkg-deb -f "$work"/one/tally_*.deb Package Version Depends
  check_unit "$work/root"
  # Started as the unit does, with the environment of the package, by a user who owns nothing but the state directory.
  local as=()
  mkdir "$work/state"
  if ((EUID == 0)); then
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chown 65534:65534 "$work/state"
    chmod 711 "$work"
  fi
  (
    cd "$work/state"
    set -a
    # shellcheck disable=SC1091
    source "$work/root/etc/default/tally"
    TALLY_TOPOLOGY=$work/root$TALLY_TOPOLOGY
    if [[ -d $work/root$TALLY_WEB ]]; then TALLY_WEB=$work/root$TALLY_WEB; else unset TALLY_WEB; fi
    TALLY_LISTEN=127.0.0.1:0
    exec "${as[@]}" "$work/root/usr/bin/tally" run > "$work/run.log" 2>&1
  ) &
  pid=$!
  # shellcheck disable=SC2064
  trap "kill -KILL $pid 2>/dev/null || true; rm -rf '$work'" EXIT
  until url=$(grep -o 'http://127.0.0.1:[0-9]*' "$work/run.log" | head -1) && [[ -n $url ]] && curl -sf "$url/readyz" >/dev/null; do
    kill -0 "$pid" 2>/dev/null || { cat "$work/run.log"; return 1; }
    sleep 0.1
  done
  kill -TERM "$pid"
  wait "$pid"
  echo "started from the package as uid $( ((EUID == 0)) && echo 65534 || id -u), ready, ended by SIGTERM"
}

case ${1:-} in
  build) build "$2" "$3" ;;
  test)
    for tool in dpkg-deb objcopy setpriv python3; do
      command -v "$tool" >/dev/null || { echo "skipped: $tool is not here, which packages need"; exit 0; }
    done
    run_test "$2"
    ;;
  *) sed -n '2,/^set/{/^#/p}' "$0"; exit 2 ;;
esac
