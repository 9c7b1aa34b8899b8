# Everything that is needed is installed or named: see README.md.
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: run test check setup bench fmt

## run: the whole pipeline with sample traffic; prints the page's address
run:
	$(CARGO) build --release --bin tally
	@echo "starting with sample traffic; Ctrl-C ends it"
	./target/release/tally run --demo

## check: the quick subset: formatting, lints, unit tests
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace --lib

## test: everything
test:
	bash deploy/test.sh

## setup: what the tests need beyond Rust and a C compiler (nothing yet)
setup:
	@command -v $(CARGO) >/dev/null || { echo "install Rust (1.95 or newer) first: the tests need cargo"; exit 1; }
	@command -v cc >/dev/null || { echo "install a C compiler first: LMDB and SQLite are built from source"; exit 1; }
	@echo "nothing else is needed"

## bench: CPU per million events of the processors and of the whole process, each beside a plain loop
bench:
	$(CARGO) bench --bench processors
	$(CARGO) bench -p tally-ingest
	$(CARGO) build --release --bin tally
	$(CARGO) bench --bench whole_process

fmt:
	$(CARGO) fmt --all
