# Two commands for a newcomer: `make demo` and `make test`. `make help` lists the rest.
PY := .venv/bin/python
APT := python3-venv libnftables1 nftables iproute2 procps gzip xz-utils
export DEBIAN_FRONTEND := noninteractive

help:
	@echo 'make demo         watch an attack being stopped, in network namespaces, for real (under a minute)'
	@echo 'make test         everything: lint, types, unit, laws, fuzz, end to end'
	@echo 'make check        lint, types, unit and laws: two minutes, no root'
	@echo 'make conformance  fail2ban'"'"'s own sample logs through our loader, filters and dates: the score by filter'
	@echo 'make bench        throughput, latency and footprint, beside the peers, into bench/results/'
	@echo 'make bench-crowd  attackers who never come back with the same address, beside fail2ban (live runs as root)'
	@echo 'make lab          real outages from real software, one of each kind, into lab-cases/ (root; an hour)'
	@echo 'make lab-score    the same three times, with fresh draws, and how often explain names the cause'
	@echo 'make setup        .venv/bin/tocsin and what it needs'
	@echo 'make install      into /opt/tocsin, with the systemd unit and its user (root)'
	@echo 'make lock         write requirements.txt anew from requirements.in'

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml
	@missing=; for p in $(APT); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then echo "setup: installing Debian packages:$$missing"; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "setup: please run: sudo apt-get install$$missing"; exit 1; fi; fi
	@echo 'setup: making .venv from requirements.txt (versions and hashes pinned)'
	@[ -x .venv/bin/python ] || $${PYTHON:-python3} -m venv .venv
	@.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	@.venv/bin/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# $(call quietly,PACKAGES): install them, none of their services started; who is not root is told how.
define quietly
@missing=; for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
if [ -n "$$missing" ]; then \
  if [ "$$(id -u)" = 0 ]; then echo "$@: installing Debian packages, their services kept from starting:$$missing"; \
    policy=/usr/sbin/policy-rc.d; mine=; \
    [ -e $$policy ] || { mine=1; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; }; \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; code=$$?; \
    [ -z "$$mine" ] || rm -f $$policy; exit $$code; \
  else echo "$@: please run: sudo apt-get install$$missing (and keep their services from starting)"; exit 1; fi; fi
endef

# fail2ban is what its drop-in is compared with: installed, never started.
oracle:
	$(call quietly,fail2ban python3-pyinotify)

# Apache and nginx, which the tests start in their own namespaces.
servers:
	$(call quietly,apache2 nginx)

check: setup oracle
	.venv/bin/ruff format --check -q src tests bench demo lab
	.venv/bin/ruff check -q src tests bench demo lab
	.venv/bin/mypy
	.venv/bin/mypy lab tests/unit/lab/*.py tests/conftest.py
	$(PY) -m pytest tests/unit tests/laws

conformance: setup oracle
	$(PY) tests/conformance

test: setup check servers
	$(PY) -m pytest tests --ignore=tests/unit --ignore=tests/laws

format: setup
	.venv/bin/ruff check -q --fix src tests bench demo lab
	.venv/bin/ruff format -q src tests bench demo lab

demo: setup
	@$(PY) demo/play.py

bench: setup oracle
	$(PY) bench/run.py

# The live runs among them want root and what `make lab-setup` installs; without either they say so.
bench-crowd: setup oracle
	$(PY) bench/crowd.py --live

# Apache, nginx, PHP, WordPress and MariaDB: installed, never started outside the lab's own namespaces.
lab-setup: setup
	@$(PY) lab/setup.py

JOBS ?= 2
lab: lab-setup
	$(PY) lab/run.py --jobs $(JOBS)

# Fresh seeds each time, printed with the score: what explain was developed on is never what it is scored on.
RUNS ?= 3
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
lab-score: CASES := lab-cases/$(SEED)
lab-score: lab-setup
	$(PY) lab/run.py --jobs $(JOBS) --runs $(RUNS) --seed $(SEED) --out $(CASES) || echo 'lab-score: some runs did not go as meant: named above, and left out of the score'
	$(PY) lab/score.py $(CASES)/*

OPT ?= /opt/tocsin
install: setup
	python3 -m venv $(OPT)
	$(OPT)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	$(OPT)/bin/pip install -q --disable-pip-version-check --no-build-isolation --no-deps .
	ln -sf $(OPT)/bin/tocsin $(DESTDIR)/usr/local/bin/tocsin
	install -D -m 644 packaging/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/tocsin.conf
	install -D -m 644 packaging/tocsin.service $(DESTDIR)/etc/systemd/system/tocsin.service
	sed 's#/opt/tocsin#$(OPT)#g' packaging/tocsin-nginx.service >$(DESTDIR)/etc/systemd/system/tocsin-nginx.service
	[ -e $(DESTDIR)/etc/tocsin/tocsin.toml ] || install -D -m 644 packaging/tocsin.toml $(DESTDIR)/etc/tocsin/tocsin.toml
	for u in tocsin tocsin-actions; do getent passwd $$u >/dev/null || useradd --system --no-create-home --shell /usr/sbin/nologin $$u; done
	@echo 'install: next: tocsin check, then: systemctl enable --now tocsin'

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate requirements.in -o requirements.txt -q

.PHONY: help setup oracle servers check conformance test format demo bench bench-crowd lab-setup lab lab-score install lock
