# Development of excise. `make` lists the targets; `make test` is what the CI runs.

# bcc is the distribution's package and lives beside its own interpreter.
PYTHON ?= /usr/bin/python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# bcc for Python; what a virtual environment needs; a compiler and libc headers, with which the tests build targets;
# strace, with which they see what the agent asks of the kernel.
APT    := python3-bpfcc python3-venv g++ libc6-dev linux-libc-dev strace
# What builds the package, and the machine on which the tests install it.
APT_DEB  := debhelper python3-venv
APT_TEST := $(APT_DEB) lintian debootstrap systemd-container
# Servers that tests talk to. Unpacked and not installed: their packages would start them on this host's ports.
SERVERS := prometheus
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
.PHONY: help venv apt apt-deb apt-test servers demo test test-systemd lint deb bench soak faults clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## distribution packages, virtual environment, excise itself (editable)

$(STAMP): pyproject.toml Makefile | apt
	@$(PYTHON) -m venv --system-site-packages $(VENV)
	@$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/pip install --quiet --editable '.[demo]' --group dev
	@touch $@

apt: ; $(call install,$(APT))
apt-deb: ; $(call install,$(APT_DEB))
apt-test: ; $(call install,$(APT_TEST))

define install
@command -v dpkg-query >/dev/null || { echo 'make: not a Debian: install bcc for Python yourself' \
    '(dnf install python3-bcc gcc-c++)' >&2; exit 0; }; \
missing=$$(for p in $(1); do \
    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q ' installed$$' || echo $$p; done); \
[ -z "$$missing" ] || { \
    log=$$(mktemp); echo "make: installing" $$missing; \
    { $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends $$missing; } >"$$log" 2>&1 \
    || { cat "$$log" >&2; rm -f "$$log"; exit 1; }; rm -f "$$log"; }
endef

servers: $(SERVERS:%=$(VENV)/servers/%.unpacked) ## servers that tests talk to, unpacked into the virtual environment

$(VENV)/servers/%.unpacked: | $(STAMP)
	@mkdir -p $(VENV)/servers/$*.tmp
	@command -v apt-get >/dev/null || { echo 'make: not a Debian: put $* (and promtool) on PATH' >&2; exit 1; }
	@cd $(VENV)/servers/$*.tmp && rm -f *.deb && echo 'make: unpacking $*' && \
	    { apt-get download -qq $* || { $(SUDO) apt-get update -qq && apt-get download -qq $*; }; } 2>apt.log \
	    || { cat apt.log >&2; exit 1; }
	@dpkg-deb -x $(VENV)/servers/$*.tmp/*.deb $(VENV)/servers
	@rm -r $(VENV)/servers/$*.tmp && touch $@

demo: $(STAMP) ## profile a small inference server for 10 s; writes excise-demo.html
	@$(BIN)/python packaging/demo/demo.py

# What watches real processes wants the machine to itself: it comes last. Before that, on the two cores: the package on its own
# Debian, and all the rest. The summaries are pytest's, one for each.
ALONE := $(wildcard tests/bpf tests/accuracy tests/soak tests/workloads tests/capabilities tests/daemon tests/faults tests/security)
REST  := $(filter-out $(ALONE) tests/systemd tests/targets tests/bench,$(patsubst %/,%,$(wildcard tests/*/)))
PYTEST := $(BIN)/python -m pytest -q -p no:cacheprovider

test: lint apt-test servers ## everything: ruff, mypy, pytest
	@mkdir -p build; $(PYTEST) tests/systemd >build/systemd.log 2>&1 & package=$$!; \
	$(PYTEST) $(REST) tests/test_*.py; rest=$$?; \
	wait $$package; package=$$?; cat build/systemd.log; \
	$(PYTEST) $(ALONE); alone=$$?; exit $$((rest | package | alone))

test-systemd: $(STAMP) apt-test ## the package alone: built, installed and purged on a Debian of its own, under systemd
	@$(BIN)/python -m pytest -q tests/systemd

deb: apt-deb ## dist/excise_VERSION_amd64.deb
	@packaging/deb/build.sh

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: $(STAMP) ## cost on this host, and other profilers' beside it; writes docs/benchmarks.md
	@$(BIN)/pip install --quiet --group bench
	@command -v perf >/dev/null || $(SUDO) apt-get install -qq -y linux-perf >/dev/null 2>&1 || true  # the table says so
	@$(BIN)/python tests/bench/bench.py

# What the tests of sinks talk to: Debian's ClickHouse, unpacked with the libraries that it lacks and not installed (the
# package would start a server on this host's ports), and npm's Fluent Forward server.
test: $(VENV)/clickhouse/.unpacked $(VENV)/.forward-peer

$(VENV)/clickhouse/.unpacked: | $(STAMP)
	@command -v apt-get >/dev/null || { echo 'make: not a Debian: put clickhouse-server and -client on PATH' >&2; exit 1; }
	@echo 'make: unpacking clickhouse-server'; rm -rf $(@D) && mkdir -p $(@D)/debs && cd $(@D)/debs && \
	    set -- clickhouse-server clickhouse-client && \
	    { apt-get -s -qq install $$* >/dev/null 2>&1 || $(SUDO) apt-get update -qq; } && \
	    apt-get download -qq clickhouse-common $$* $$(apt-get -s --no-install-recommends install $$* | \
	        awk '/^Inst lib/ {print $$2}') 2>apt.log || { cat apt.log >&2; exit 1; }
	@cd $(@D) && for deb in debs/*.deb; do dpkg-deb -x $$deb . || exit 1; done && rm -r debs && touch $(@F)

$(VENV)/.forward-peer: tests/sinks/forward_peer.py | $(STAMP)
	@$(MAKE) --no-print-directory apt APT="$$(command -v npm >/dev/null || echo nodejs npm) \
	    $$(command -v openssl >/dev/null || echo openssl)"
	@$(BIN)/python $< && touch $@

soak: $(STAMP) ## an hour of 10 000 short-lived children: does the agent stay as it is?
	@$(BIN)/python tests/soak/soak.py --children 10000 --over 3600 --steps 12

faults: $(STAMP) ## 50 kills of the agent, 200 targets a minute, ...: half an hour
	@EXCISE_FAULTS=full $(BIN)/python -m pytest -q -s tests/faults
	@$(BIN)/python tests/bench/agent_idle.py

clean: ## remove the virtual environment, caches and build outputs
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis excise-demo.html
	@find src agent tests packaging -name __pycache__ -type d -prune -exec rm -rf {} +
