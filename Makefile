# The two commands of the README: `make run` and `make test`. Each sets up what it needs first, and says so.

SECONDS ?= 0
CARGO ?= cargo
export PATH := $(HOME)/.cargo/bin:$(PATH)

.PHONY: run test build lint setup-run setup-test

run: setup-run
	@echo "==> Building turnpike (release)"
	@$(CARGO) build --release -p control
	@echo "==> Starting the forwarder on virtual ports; Ctrl-C ends it"
	@exec target/release/turnpike demo --seconds $(SECONDS)

test: setup-test
	@scripts/test.sh

build: setup-run
	$(CARGO) build --release -p control

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

setup-run:
	@scripts/setup.sh run

setup-test:
	@scripts/setup.sh test
