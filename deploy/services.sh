#!/usr/bin/env bash
# Kafka, MariaDB, MySQL, Redis and a Redis Cluster as plain processes on loopback, for tests: no Docker, no root, no service
# manager. Everything of one set of services (data, logs, ports, pids) is in one directory; sets do not disturb each other.
#
#   services.sh install                    what is missing: Kafka's jars by Maven, the rest and Chromium by apt; MySQL
#                                          from Debian's unstable release, unpacked beside the jars, where that can be had
#   services.sh jars                       where Kafka's jars are, its own tools among them
#   services.sh start DIR [SERVICE…]       starts and waits until they are ready; writes and prints DIR/env
#   services.sh stop DIR [NAME…]           ends them; the data stay, and `start` takes them up on the same ports
#   services.sh kill DIR NAME…             SIGKILL
#   services.sh pause | resume DIR NAME…   SIGSTOP | SIGCONT
#   services.sh env DIR                    the addresses again
#   services.sh run DIR -- COMMAND…        starts all, runs the command with the addresses in its environment, stops all;
#                                          the command has a process group of its own and cannot read from a terminal
#
# SERVICE is one of kafka mariadb mysql redis redis-cluster; without any: all, mysql only where it is installed. NAME may
# also be one node of the cluster: redis-cluster-1, -2 or -3. DIR/NAME.log has the output of a process, DIR/NAME.pid its id.
# Exit codes: 0 well, 1 something did not start or is not there, 2 wrong usage; `run`: the command's own.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
kafka_version=4.3.0
mysql_root=${TALLY_MYSQL_DIR:-$HOME/.cache/tally/mysql}
has_mysql() { [[ -f $mysql_root/version ]]; }
# The slowest first.
all_services=(kafka redis-cluster mariadb redis)
! has_mysql || all_services=(mysql "${all_services[@]}")
# Generous: a busy machine, or a database that repairs itself after a kill.
ready_s=90
stop_s=20
port_tries=5
lock=

say() { printf 'services: %s\n' "$*" >&2; }
die() {
  say "$*"
  exit 1
}
usage() {
  sed -n '/^#   services.sh/,/^# Exit/s/^# \{0,3\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}
has() { command -v "$1" >/dev/null 2>&1; }

# The processes of a service.
names_of() {
  case $1 in
    redis-cluster) echo redis-cluster-1 redis-cluster-2 redis-cluster-3 ;;
    redis-cluster-[123] | kafka | mariadb | mysql | redis) echo "$1" ;;
    *)
      say "no such service: $1; there are ${all_services[*]}"
      exit 2
      ;;
  esac
}

# --- processes -------------------------------------------------------------------------------------------------------

# The argument that only this process has: its own file or directory in $dir.
mark_of() {
  case $1 in
    kafka) echo "$dir/kafka/server.properties" ;;
    mariadb | mysql) echo "--datadir=$dir/$1/data" ;;
    redis) echo "$dir/redis/redis.conf" ;;
    redis-cluster-*) echo "$dir/redis-cluster/${1##*-}/redis.conf" ;;
  esac
}

# The id in the pid file, if that process is still this service and not a later one that was given the same id.
pid_of() {
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 1
  grep -qzxF -- "$(mark_of "$1")" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# Whether nothing is left of a process. A dying one loses its command line first, and its port and file locks later.
is_gone() {
  local pid state threads
  pid=$(cat "$dir/$1.pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ && -d /proc/$pid ]] || return 0
  if [[ -n $(tr -d '\0' 2>/dev/null <"/proc/$pid/cmdline") ]]; then
    if pid_of "$1" >/dev/null; then return 1; else return 0; fi
  fi
  state=$(awk '/^State:/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || return 0
  threads=("/proc/$pid/task/"*)
  [[ $state == Z && ${#threads[@]} -eq 1 ]] # only its parent has not asked yet
}

# Each process leads a group of its own; the group also has what it forked, such as the formatting of Kafka's directory.
signal() {
  local name=$1 signal=$2 pid
  pid=$(pid_of "$name") || return 1
  kill -s "$signal" -- "-$pid" 2>/dev/null || kill -s "$signal" "$pid" 2>/dev/null
}

# Waits for a condition; 1 when it does not come.
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < until)) || return 1
    sleep 0.05
  done
}

# Starts a process that outlives this script, its terminal, and whatever waits for the caller's files to be closed.
launch() {
  local name=$1 fd
  shift
  printf '=== start %(%FT%T)T\n' -1 >>"$dir/$name.log"
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd < 3)) || eval "exec $fd>&-"
    done
    cd "$dir"
    echo "$BASHPID" >"$dir/$name.pid"
    exec setsid "$@"
  ) </dev/null >>"$dir/$name.log" 2>&1 &
  # From here on it is known by its mark, or it has ended.
  until pid_of "$name" >/dev/null || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
  disown $! # the shell need not report how it ended
}

# Whether the log has a text since the last start.
logged() { awk -v text="$2" '/^=== start/ { found = 0 } index($0, text) { found = 1 } END { exit !found }' "$dir/$1.log"; }

kill_now() {
  local name
  for name in "$@"; do signal "$name" KILL || true; done
  for name in "$@"; do wait_for "$stop_s" is_gone "$name" || die "$name does not end: process $(cat "$dir/$name.pid")"; done
}

# --- ports -----------------------------------------------------------------------------------------------------------

# Prints N unused ports of 127.0.0.1. They lie outside of the kernel's range for port 0 and outgoing connections,
# because a port must still be free after its service was killed. Another process can still take one first, so every
# start checks for `address already in use` and chooses again.
free_ports() {
  perl -MIO::Socket::INET -e '
    my ($low) = do { open my $f, "<", "/proc/sys/net/ipv4/ip_local_port_range"; $f ? split " ", <$f> : () };
    $low = 32768 unless $low && $low > 12000;
    my (@held, $tries);
    while (@held < $ARGV[0] && $tries++ < 1000) {
      my $port = 10000 + int rand($low - 10000);
      my $held = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Proto => "tcp", Listen => 1);
      push @held, $held if $held;
    }
    die "no free port\n" if @held < $ARGV[0];
    print join(" ", map { $_->sockport } @held), "\n";' "$1"
}

# DIR/SERVICE/ports appears when the service has been ready for the first time. Without it nothing in there is worth keeping.
is_new() { [[ ! -f $dir/$1/ports ]]; }
ports_of() { cat "$dir/$1/ports" 2>/dev/null || cat "$dir/$1/ports.new"; }
port_of() { ports_of "$1" | cut -d ' ' -f "$2"; }

# --- services: launch_X starts what does not run, ready_X reports whether it can be used
# ------------------------------------

kafka_jars() { echo "${TALLY_KAFKA_DIR:-$HOME/.cache/tally/kafka-$kafka_version}"; }
has_kafka() { [[ -f $(kafka_jars)/kafka_2.13-$kafka_version.jar ]]; }

launch_kafka() {
  local jars port controller_port secure_port secure uuid
  jars=$(kafka_jars)
  read -r port controller_port secure_port < <(ports_of kafka)
  secure=SECURE://127.0.0.1:$secure_port
  {
    cat "$here/kafka/server.properties"
    echo "log.dirs=$dir/kafka/data"
    echo "listeners=BROKER://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port,$secure"
    echo "listener.name.secure.ssl.keystore.location=$dir/kafka/certificate.p12"
    echo "controller.quorum.voters=1@127.0.0.1:$controller_port"
    # Where clients are sent to: a test may put a proxy between.
    [[ -z ${TALLY_KAFKA_ADVERTISED:-} ]] || echo "advertised.listeners=BROKER://$TALLY_KAFKA_ADVERTISED,$secure"
  } >"$dir/kafka/server.properties"
  is_new kafka && make_certificate "$dir/kafka"
  cp "$here/kafka/log4j2.properties" "$dir/kafka/"
  # It may begin with a hyphen.
  uuid=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)
  # Here and for MySQL: without the trap a stop would end the shell before the command that it waits for.
  # shellcheck disable=SC2016
  launch kafka bash -euc '
    trap "exit 143" TERM
    java=(java "-Dlog4j2.configurationFile=${0%/*}/log4j2.properties" -cp "$1/*")
    [[ -f ${0%/*}/data/meta.properties ]] ||
      "${java[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format --cluster-id="$2" -c "$0"
    exec "${java[@]}" -Xms256m -Xmx512m kafka.Kafka "$0"' "$dir/kafka/server.properties" "$jars" "$uuid"
}

# The self-signed certificate of the listener with TLS and SASL, and the client properties for both.
make_certificate() {
  local store=(-keystore "$1/certificate.p12" -storetype PKCS12 -storepass for-tests -alias tally)
  {
    keytool -genkeypair "${store[@]}" -keyalg EC -dname CN=tally -ext san=ip:127.0.0.1 -validity 3650
    keytool -exportcert "${store[@]}" -rfc -file "$1/certificate.pem"
  } >"$1/keytool.log" 2>&1 || die "no certificate: $(cat "$1/keytool.log")"
  printf '%s\n' security.protocol=SASL_SSL "ssl.ca.location=$1/certificate.pem" sasl.mechanism=PLAIN \
    sasl.username=tally sasl.password=tally >"$1/client.properties"
}

ready_kafka() { logged kafka 'Kafka Server started'; }

database_and_user() {
  cat <<'END'
CREATE DATABASE IF NOT EXISTS tally;
CREATE USER IF NOT EXISTS tally@'127.0.0.1' IDENTIFIED BY 'tally';
GRANT ALL ON *.* TO tally@'127.0.0.1' WITH GRANT OPTION;
END
}

launch_mariadb() {
  local data=$dir/mariadb/data tmp=$dir/mariadb/tmp
  # A server that starts deletes the temporary tables of all others in the directory that it has for them.
  mkdir -p "$tmp"
  if is_new mariadb; then
    TMPDIR=$tmp mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --skip-test-db \
      --user="$(id -un)" >>"$dir/mariadb.log" 2>&1 || die "no database in $data: $(tail -n 5 "$dir/mariadb.log")"
    database_and_user >"$dir/mariadb/init.sql"
  fi
  # A relative socket lies in the data directory: a long DIR would not fit the address of a socket.
  launch mariadb mariadbd --no-defaults --datadir="$data" --tmpdir="$tmp" --user="$(id -un)" --bind-address=127.0.0.1 \
    --port="$(port_of mariadb 1)" --socket=mariadb.sock --pid-file="$dir/mariadb/mariadbd.pid" \
    --init-file="$dir/mariadb/init.sql" --skip-name-resolve --max-connections=500 --character-set-server=utf8mb4 \
    --innodb-buffer-pool-size=256M --innodb-flush-log-at-trx-commit=2
}

# Another server on that port would report another data directory.
ready_mariadb() {
  local found
  found=$(timeout 10 mariadb --no-defaults -h127.0.0.1 -P"$(port_of mariadb 1)" -utally -ptally tally \
    -BNe 'SELECT @@datadir' 2>/dev/null) && [[ $found == "$dir/mariadb/data/" ]]
}

# With the loader and the libraries of its own release: those of this system may be older.
launch_mysql() {
  local root=$mysql_root/usr loader
  loader=$(echo "$root"/lib*/ld-linux-*.so.*)
  database_and_user >"$dir/mysql/init.sql"
  mkdir -p "$dir/mysql/tmp"
  # shellcheck disable=SC2016
  TALLY_PORT=$(port_of mysql 1) launch mysql bash -euc '
    trap "exit 143" TERM
    initialised=${0#--datadir=}.initialised
    [[ -f $initialised ]] || { "$@" "$0" --initialize-insecure && touch "$initialised"; }
    # The process that a kill has left may still be known by its id.
    rm -f "${0#--datadir=}"/mysql.sock*
    exec "$@" "$0" --bind-address=127.0.0.1 --port="$TALLY_PORT" --socket=mysql.sock --mysqlx=OFF --pid-file=mysqld.pid \
      --init-file="${0#--datadir=}/../init.sql" --secure-file-priv=NULL --skip-name-resolve --skip-log-bin \
      --max-connections=300 --performance-schema=OFF --innodb-buffer-pool-size=128M --innodb-flush-log-at-trx-commit=2
    ' "--datadir=$dir/mysql/data" "$loader" --library-path "$(echo "$root"/lib/*-linux-gnu)" "$root/sbin/mysqld" \
    --no-defaults --user="$(id -un)" --tmpdir="$dir/mysql/tmp" --basedir="$root" --lc-messages-dir="$root/share/mysql" \
    --character-sets-dir="$root/share/mysql/charsets" --plugin-dir="$root/lib/mysql/plugin"
}

ready_mysql() { logged mysql "port: $(port_of mysql 1) "; }

# Acknowledged writes survive a kill: they are handed to the kernel before the answer, as in Kafka and in MariaDB here.
redis_settings() {
  cat <<END
bind 127.0.0.1
port $1
dir $2
save ""
appendonly yes
appendfsync no
daemonize no
set-proc-title no
END
}

# redis_cli PORT ARGUMENT…
redis_cli() {
  local port=$1
  shift
  timeout 2 redis-cli -h 127.0.0.1 -p "$port" "$@" 2>/dev/null
}

is_redis() {
  local info
  info=$(redis_cli "$2" info server) && [[ $info == *process_id:"$(cat "$dir/$1.pid")"$'\r'* ]]
}

launch_redis() {
  redis_settings "$(port_of redis 1)" "$dir/redis" >"$dir/redis/redis.conf"
  launch redis redis-server "$dir/redis/redis.conf"
}

ready_redis() { is_redis redis "$(port_of redis 1)" && [[ $(redis_cli "$(port_of redis 1)" ping) == PONG ]]; }

# Three masters; each has a port for clients and one for the other nodes.
launch_redis-cluster() {
  local ports node home
  read -ra ports < <(ports_of redis-cluster)
  for node in 1 2 3; do
    ! pid_of "redis-cluster-$node" >/dev/null || continue
    home=$dir/redis-cluster/$node
    mkdir -p "$home"
    {
      redis_settings "${ports[node - 1]}" "$home"
      printf '%s\n' "cluster-enabled yes" "cluster-port ${ports[node + 2]}" "cluster-announce-ip 127.0.0.1" \
        "cluster-node-timeout 2000"
    } >"$home/redis.conf"
    launch "redis-cluster-$node" redis-server "$home/redis.conf"
  done
}

ready_redis-cluster() {
  local ports node info
  read -ra ports < <(ports_of redis-cluster)
  for node in 1 2 3; do is_redis "redis-cluster-$node" "${ports[node - 1]}" || return 1; done
  if is_new redis-cluster && [[ ! -f $dir/redis-cluster/met ]]; then
    for node in 1 2 3; do
      redis_cli "${ports[node - 1]}" cluster addslotsrange $((16384 * (node - 1) / 3)) $((16384 * node / 3 - 1))
      redis_cli "${ports[node - 1]}" cluster set-config-epoch "$node"
      redis_cli "${ports[0]}" cluster meet 127.0.0.1 "${ports[node - 1]}" "${ports[node + 2]}"
    done >/dev/null
    touch "$dir/redis-cluster/met"
  fi
  for node in 1 2 3; do
    info=$(redis_cli "${ports[node - 1]}" cluster info) || return 1
    [[ $info == *cluster_state:ok* && $info == *cluster_known_nodes:3* && $info == *cluster_slots_ok:16384* ]] || return 1
  done
}

# --- install ---------------------------------------------------------------------------------------------------------

has_java() { has java && [[ $(java -version 2>&1) =~ version\ \"([0-9]+) ]] && ((BASH_REMATCH[1] >= 17)); }

has_redis_7() { [[ $(redis-server --version) =~ v=([0-9]+) ]] && ((BASH_REMATCH[1] >= 7)); }

# Kafka needs Java 17; the default of a distribution may be older.
java_package() {
  if apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
    echo openjdk-17-jre-headless
  else
    echo default-jre-headless
  fi
}

# Installs packages; `java` is the one that `java_package` names. The distribution may start what it installs. That does
# no harm: it has other ports and directories.
apt_install() {
  local as_root=() packages=("$@") install=(apt-get install -y --no-install-recommends)
  has apt-get || die "install what these packages of Debian have: ${packages[*]}"
  if ((EUID)); then
    if [[ ${CI:-} != true ]] || ! has sudo; then
      die "run: sudo apt-get update && sudo ${install[*]} ${packages[*]/#java/$(java_package)}"
    fi
    as_root=(sudo -n)
  fi
  say "apt-get installs ${packages[*]}"
  "${as_root[@]}" apt-get update >/dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" "${packages[@]/#java/$(java_package)}" >/dev/null
}

has_chromium() { [[ -n ${TALLY_CHROMIUM:-} ]] || has chromium || has chromium-browser || has google-chrome; }

has_faketime() { compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null; }

# All or nothing: a directory that is there is whole.
install_kafka() {
  local jars temporary output
  ! has_kafka || return 0
  jars=$(kafka_jars)
  mkdir -p "$(dirname "$jars")"
  temporary=$(mktemp -d -p "$(dirname "$jars")")
  # shellcheck disable=SC2064
  trap "rm -rf '$temporary'" EXIT
  say "Maven fetches Kafka $kafka_version into $jars"
  output=$(mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$temporary" 2>&1) || die "Maven failed: $output"
  # A concurrent download has the same content.
  mv -T "$temporary" "$jars" 2>/dev/null || has_kafka || die "cannot make $jars"
}

# MySQL is in no stable release of Debian, and the unstable one has whatever is new: nothing can be pinned. Its packages
# are unpacked and not installed. Without it everything else works, so a failure here does not fail `install`.
install_mysql() {
  local temporary apt output package mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  ! has_mysql || return 0
  if ! has apt-get || ! has dpkg-deb || [[ ! -f $keyring ]]; then
    say "no MySQL here: it is fetched with apt-get and dpkg-deb, and $keyring"
    return 0
  fi
  # The mirror that this system uses has the unstable release as well.
  # shellcheck disable=SC2016
  mirror=${TALLY_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(LABEL) $(SITE)' 'Created-By: Packages' |
    awk '$1 == "Debian" { print $2; exit }')}
  if [[ -z $mirror ]]; then
    say "no MySQL here: apt-get knows no mirror of Debian; set TALLY_DEBIAN_MIRROR to the address of one"
    return 0
  fi
  mkdir -p "$(dirname "$mysql_root")"
  temporary=$(mktemp -d -p "$(dirname "$mysql_root")")
  # shellcheck disable=SC2064
  trap "rm -rf '$temporary'" EXIT
  mkdir -p "$temporary"/{state/lists/partial,cache/archives/partial,root}
  : >"$temporary/status"
  echo "deb [signed-by=$keyring] $mirror sid main" >"$temporary/sources.list"
  # What this system has, and from where, is of no interest.
  apt=(apt-get -q -o Dir::Etc::SourceList="$temporary/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State="$temporary/state"
    -o Dir::State::Status="$temporary/status" -o Dir::Cache="$temporary/cache" -o APT::Sandbox::User=
    -o Acquire::Languages=none)
  say "apt-get fetches MySQL and its libraries into $mysql_root"
  if ! output=$({ "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends --download-only \
    mysql-server-core; } 2>&1); then
    say "no MySQL: $(tail -n 3 <<<"$output")"
    return 0
  fi
  for package in "$temporary"/cache/archives/*.deb; do
    case ${package##*/} in
      perl* | libperl* | debconf* | gcc-*) continue ;;
      mysql-server-core_*) dpkg-deb -f "$package" Version >"$temporary/root/version" ;;
    esac
    dpkg-deb -x "$package" "$temporary/root"
  done
  rm -rf "$temporary/root/usr/bin" "$temporary/root/usr/share/doc" "$temporary/root/etc"
  # A concurrent download has nearly the same content.
  mv -T "$temporary/root" "$mysql_root" 2>/dev/null || has_mysql || say "no MySQL: cannot make $mysql_root"
  rm -rf "$temporary"
}

install() {
  local packages=()
  has mariadbd && has mariadb-install-db && has mariadb || packages+=(mariadb-server)
  has redis-server && has redis-cli || packages+=(redis-server)
  has_java || packages+=(java)
  has_kafka || has mvn || packages+=(maven)
  # For deploy/schema.sh.
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  has_chromium || packages+=(chromium)
  # For deploy/observe.sh; the package has promtool as well.
  has prometheus && has promtool || packages+=(prometheus)
  # For tests with clocks that lie.
  has_faketime || packages+=(faketime)
  # For deploy/load/load.py.
  has wrk || packages+=(wrk)
  ((${#packages[@]} == 0)) || apt_install "${packages[@]}"
  has_java || die "$(java -version 2>&1 | head -n 1) is too old for Kafka: it needs Java 17"
  has_redis_7 || die "too old: $(redis-server --version); the settings here need Redis 7"
  install_kafka
  install_mysql
  say "Kafka $kafka_version, MariaDB, Redis, Chromium and Prometheus are there$(! has_mysql || echo "; MySQL $(cat "$mysql_root/version")")"
}

# --- commands --------------------------------------------------------------------------------------------------------

# Sets `dir`.
enter() {
  (($#)) || usage
  [[ -d $1 ]] || die "no services in $1"
  dir=$(cd "$1" && pwd -P)
}

# Sets `dir`, and makes it where it is not there.
enter_or_make() {
  (($#)) || usage
  # Where it stands in configuration files nothing is quoted.
  [[ $(realpath -m -- "$1") =~ ^[A-Za-z0-9._/+@~-]+$ ]] ||
    die "services need a directory without white space, quotes and commas: $1"
  [[ -d $1 ]] || { mkdir -p "$1" && chmod 700 "$1"; }
  enter "$1"
}

# Two commands that start or stop in the same directory do it one after the other.
take_turn() {
  [[ -n $lock ]] || exec {lock}>"$dir/lock"
  flock "$lock"
}

let_next() {
  exec {lock}>&-
  lock=
}

# What `start` cannot do without.
check_installed() {
  local needed
  case $1 in
    kafka) needed=(java keytool) ;;
    mariadb) needed=(mariadbd mariadb-install-db mariadb) ;;
    mysql) needed=(bash) ;;
    redis*) needed=(redis-server redis-cli) ;;
  esac
  for needed in "${needed[@]}"; do has "$needed" || die "no $needed: make setup"; done
  [[ $1 != kafka ]] || has_kafka || die "no Kafka in $(kafka_jars): make setup"
  [[ $1 != mysql ]] || has_mysql || die "no MySQL in $mysql_root: make setup fetches it where it can be had"
}

# From nothing: whatever is left of a first start that did not come to its end goes.
renew() {
  local service=$1 ports_needed=1 names
  case $service in
    kafka) ports_needed=3 ;;
    redis-cluster) ports_needed=6 ;;
  esac
  read -ra names < <(names_of "$service")
  kill_now "${names[@]}"
  rm -rf "${dir:?}/$service"
  mkdir -p "$dir/$service"
  free_ports "$ports_needed" >"$dir/$service/ports.new"
}

runs() {
  local name names
  read -ra names < <(names_of "$1")
  for name in "${names[@]}"; do pid_of "$name" >/dev/null || return 1; done
}

begin() {
  local service=$1 name names
  if is_new "$service"; then
    renew "$service"
  else
    read -ra names < <(names_of "$service")
    for name in "${names[@]}"; do signal "$name" CONT || true; done
  fi
  runs "$service" || "launch_$service"
}

# Not to be expected any more, or ready.
settled() { ! runs "$1" || "ready_$1"; }

finish() {
  local service=$1 tries name names
  read -ra names < <(names_of "$service")
  for ((tries = 1; ; tries++)); do
    wait_for "$ready_s" settled "$service" && runs "$service" && break
    if is_new "$service" && ((tries < port_tries)) && port_was_taken "${names[@]}"; then
      begin "$service"
      continue
    fi
    for name in "${names[@]}"; do
      say "the end of $dir/$name.log:"
      tail -n 20 "$dir/$name.log" >&2
    done
    die "$service did not get ready on 127.0.0.1, port $(ports_of "$service")"
  done
  ! is_new "$service" || mv "$dir/$service/ports.new" "$dir/$service/ports"
}

port_was_taken() {
  local name
  for name in "$@"; do
    ! logged "$name" 'ddress already in use' || return 0
  done
  return 1
}

write_env() {
  local ports
  {
    if ! is_new kafka; then
      echo "TALLY_TEST_KAFKA=127.0.0.1:$(port_of kafka 1)"
      echo "TALLY_TEST_KAFKA_SECURE=127.0.0.1:$(port_of kafka 3)"
      echo "TALLY_TEST_KAFKA_PROPERTIES=$dir/kafka/client.properties"
    fi
    is_new mariadb || echo "TALLY_TEST_MARIADB=mysql://tally:tally@127.0.0.1:$(port_of mariadb 1)/tally"
    if ! is_new mysql; then
      echo "TALLY_TEST_MYSQL=mysql://tally:tally@127.0.0.1:$(port_of mysql 1)/tally"
      echo "TALLY_TEST_MYSQL_VERSION=$(cat "$mysql_root/version")"
    fi
    is_new redis || echo "TALLY_TEST_REDIS=redis://127.0.0.1:$(port_of redis 1)"
    if ! is_new redis-cluster; then
      read -ra ports < <(ports_of redis-cluster)
      printf 'TALLY_TEST_REDIS_CLUSTER=redis+cluster://127.0.0.1:%s,127.0.0.1:%s,127.0.0.1:%s\n' "${ports[@]:0:3}"
    fi
  } >"$dir/env.new"
  mv "$dir/env.new" "$dir/env"
}

start() {
  local services=("$@") service at
  ((${#services[@]})) || services=("${all_services[@]}")
  for service in "${services[@]}"; do
    [[ " mysql ${all_services[*]} " == *" $service "* ]] || { say "no such service: $service"; usage; }
    check_installed "$service"
  done
  take_turn
  for service in "${services[@]}"; do begin "$service"; done
  # The slowest last, so that what the others still need is done meanwhile.
  for ((at = ${#services[@]} - 1; at >= 0; at--)); do finish "${services[at]}"; done
  write_env
  let_next
}

# Sets `names` to the processes of the services and nodes that are given, or of all services.
resolve() {
  local name some
  (($#)) || set -- "${all_services[@]}"
  names=()
  for name in "$@"; do
    some=$(names_of "$name") || exit
    # shellcheck disable=SC2206
    names+=($some)
  done
}

stop() {
  local names name
  resolve "$@"
  take_turn
  for name in "${names[@]}"; do
    # A paused process would not see the signal.
    signal "$name" TERM && signal "$name" CONT || true
  done
  for name in "${names[@]}"; do
    wait_for "$stop_s" is_gone "$name" || { say "$name does not stop in $stop_s s: SIGKILL" && kill_now "$name"; }
    rm -f "$dir/$name.pid"
  done
  let_next
}

signal_all() {
  local signal=$1 names name
  shift
  (($#)) || usage
  resolve "$@"
  for name in "${names[@]}"; do signal "$name" "$signal" || die "$name does not run in $dir"; done
  [[ $signal != KILL ]] || kill_now "${names[@]}"
}

# A signal that ends `run` also ends its command.
pass_on() {
  trap '' INT TERM HUP
  [[ -n $child ]] || return 0
  kill -s "$1" -- "-$child" 2>/dev/null || true
  wait_for "$stop_s" has_ended "$child" || true
  kill -s KILL -- "-$child" 2>/dev/null || true
}

has_ended() { ! kill -0 "$1" 2>/dev/null; }

run() {
  child=
  trap 'trap "" INT TERM HUP; stop' EXIT
  trap 'pass_on INT; exit 130' INT
  trap 'pass_on TERM; exit 143' TERM HUP
  start
  set -a
  # shellcheck disable=SC1091
  source "$dir/env"
  set +a
  [[ ! -t 0 ]] || exec </dev/null
  # With job control the command is the leader of a process group, so that a signal reaches all of it.
  set -m
  "$@" &
  child=$!
  set +m
  wait "$child"
}

(($#)) || usage
command=$1
shift
case $command in
  install) install ;;
  jars) kafka_jars ;;
  start)
    enter_or_make "$@"
    start "${@:2}"
    cat "$dir/env"
    ;;
  stop)
    enter "$@"
    stop "${@:2}"
    ;;
  kill)
    enter "$@"
    signal_all KILL "${@:2}"
    ;;
  pause)
    enter "$@"
    signal_all STOP "${@:2}"
    ;;
  resume)
    enter "$@"
    signal_all CONT "${@:2}"
    ;;
  env)
    enter "$@"
    [[ -f $dir/env ]] || die "no services in $dir"
    cat "$dir/env"
    ;;
  run)
    (($# >= 3)) && [[ $2 == -- ]] || usage
    enter_or_make "$@"
    run "${@:3}"
    ;;
  *) usage ;;
esac
