# Every command a contributor needs. `make` alone says what there is.

CARGO ?= cargo
PREFIX ?= /usr/local
TARGET := $(shell uname -m)-unknown-linux-gnu
DEBUG := target/$(TARGET)/debug/crun-cargo
RELEASE := target/$(TARGET)/release/crun-cargo
SCRIPTS := integration/scripts
# rustup puts its programs here, and a shell that was open before does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help build release check fmt lint doc test integration unit bench demo test-vm deny install \
	uninstall clean tools test-tools

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1 \2/p' Makefile | awk '{n=$$1; $$1=""; printf "  %-13s%s\n", n, $$0}'

build: ## the program, quickly built, slower to run
	$(CARGO) build --workspace

release: ## the program as shipped: one static file
	$(CARGO) build --release -p crun-cargo
	$(SCRIPTS)/check-release $(RELEASE)

demo: ## install what is missing, build, and run a shell in a container out of a registry
	$(SCRIPTS)/setup demo
	$(CARGO) build --workspace
	$(SCRIPTS)/demo $(DEBUG)

test: ## install what is missing, build, and run every test
	$(SCRIPTS)/setup test
	$(SCRIPTS)/test

check: fmt-check lint doc test ## what CI runs

fmt: ## format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

lint: ## clippy, warnings refused
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc: ## the libraries' documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --exclude crun-cargo --no-deps --document-private-items

unit: ## the fast tests: no containers
	$(CARGO) test --workspace --exclude integration

integration: ## the black-box tests: the program as a user sees it
	$(CARGO) build --workspace
	$(SCRIPTS)/test -p integration

bench: ## how fast, compared with the kernel's floor and with other programs
	$(SCRIPTS)/setup bench
	$(CARGO) build --release -p crun-cargo
	$(CARGO) build -p integration
	CRUN_CARGO=$(CURDIR)/$(RELEASE) $(SCRIPTS)/as-root target/$(TARGET)/debug/bench $(GROUPS)

test-vm: ## the black-box tests on cgroup v2, with systemd and as an ordinary user, in virtual machines
	$(SCRIPTS)/test-vm $(MACHINES)

deny: ## licences, advisories and sources of the dependencies
	$(CARGO) deny check

install: release ## to $(PREFIX), with its other names, manual pages and completions
	install -Dm755 $(RELEASE) $(DESTDIR)$(PREFIX)/bin/crun-cargo
	ln -sf crun-cargo $(DESTDIR)$(PREFIX)/bin/nsinit
	ln -sf crun-cargo $(DESTDIR)$(PREFIX)/bin/krgo
	ln -sf crun-cargo $(DESTDIR)$(PREFIX)/bin/crun-cargo-oci
	$(SCRIPTS)/install-documents $(RELEASE) $(DESTDIR)$(PREFIX)

uninstall: ## what install installed
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,crun-cargo nsinit krgo crun-cargo-oci)
	$(SCRIPTS)/install-documents --remove $(DESTDIR)$(PREFIX)

clean: ## everything built
	$(CARGO) clean
