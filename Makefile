# Everything that is needed is installed or named: see README.md.
SHELL := /bin/bash
CARGO ?= cargo
# Data, logs and addresses of the services that `make services` starts.
SERVICES := $(or $(TALLY_SERVICES_DIR),target/services)
# They have a plain loop to be compared with.
BENCHES := --bench processors --bench ingest --bench whole_process
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run release package test check setup services services-stop bench bench-baseline bench-services load fmt

## run: the whole pipeline with sample traffic; builds the page where Node is; prints its address
run:
	@deploy/web.sh build & page=$$!; \
	  $(CARGO) build --profile quick --no-default-features --bin tally && wait $$page
	@echo "starting with sample traffic; Ctrl-C ends it"
	$(TARGET)/quick/tally run --demo

## release: the binary with everything, in target/dist, without its debugging symbols; they are in a file beside it
release:
	$(CARGO) build --release --bin tally
	@deploy/symbols.sh $(TARGET)/release/tally $(TARGET)/dist

## package: Debian packages of the binary and of its debugging symbols, in target/dist
package:
	@deploy/web.sh build
	$(CARGO) build --release --bin tally
	@deploy/package.sh build $(TARGET)/release/tally $(TARGET)/dist

## check: the quick subset: formatting, lints, unit tests
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace --lib

## test: everything
test:
	bash deploy/test.sh

## setup: names what the build needs, and fetches what the tests need: Kafka, MariaDB, Redis, Chromium, Prometheus
setup:
	@command -v $(CARGO) >/dev/null || { echo "install Rust (1.95 or newer) first: the tests need cargo"; exit 1; }
	@command -v cc >/dev/null || { echo "install a C compiler first: LMDB and SQLite are built from source"; exit 1; }
	@command -v c++ >/dev/null || { echo "install a C++ compiler first: librdkafka is built from source"; exit 1; }
	@perl -MIPC::Cmd -MFindBin -e 1 2>/dev/null || { echo "install perl first, with its standard modules: OpenSSL is built from source"; exit 1; }
	@node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)' 2>/dev/null || { echo "install Node 20.19 or newer first, with npm: the page is built and tested with it"; exit 1; }
	@deploy/services.sh install

## services: Kafka, MariaDB, Redis and a Redis Cluster on free ports of loopback, for a person
services:
	@deploy/services.sh start $(SERVICES)
	@eval "$$(deploy/services.sh env $(SERVICES))"; printf '%s\n' "" "tally against them:" \
	  "  tally run --log kafka://$$TALLY_TEST_KAFKA --database $$TALLY_TEST_MARIADB --cache $$TALLY_TEST_REDIS" \
	  "tests against them:" \
	  "  env \$$(deploy/services.sh env $(SERVICES)) $(CARGO) test" \
	  "stop them: make services-stop; what they hold is in $(SERVICES)"

## services-stop: ends what `make services` started; its data stay
services-stop:
	@deploy/services.sh stop $(SERVICES)

## bench: CPU of the processors, of ingestion and of the whole process, each beside a plain loop;
##   compares them with benches/baseline.json, and fails if something has become slower
bench:
	$(CARGO) build --release --bin tally
	$(CARGO) bench --workspace --no-fail-fast $(BENCHES)

## bench-baseline: the same, and makes the result the baseline
bench-baseline:
	$(CARGO) build --release --bin tally
	$(CARGO) bench --workspace --no-fail-fast $(BENCHES) -- --write-baseline

## load: likes on one article and mixed reads at once: docs/load-test.md; needs wrk
load:
	$(CARGO) build --release --bin tally
	@python3 deploy/load/load.py --binary $(TARGET)/release/tally

## bench-services: takeover, rolling restart, and tally beside Kafka Streams (Maven) and a Go service (Go, wrk); 40 minutes
bench-services:
	$(CARGO) build --release --bin tally
	$(CARGO) bench --bench takeover
	$(CARGO) bench --bench rolling
	$(CARGO) bench --bench peers
	$(CARGO) bench --bench edge
	$(CARGO) bench --bench grpc
	$(CARGO) bench --bench live

fmt:
	$(CARGO) fmt --all
