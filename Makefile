# `make` alone prints what there is to make. The environment lives in .venv, results in build/; git ignores both.

PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=
SYSCONFDIR ?= /etc

VENV := .venv
BIN := $(VENV)/bin
COMPILED := build/compiled
STUDY := build/study/study.json
HOT := $(patsubst simulator/%,%,$(filter-out %/__init__.py %/guest/costs.py,$(wildcard \
	$(patsubst %,simulator/vcpud_simulator/%.py,engine entities host pause rng trace guest/* schedulers/*)))) \
	bench/thinking.py
PINS := requirements/dev.txt
SHELL_FILES := .ci/run requirements/need-debian tests/prometheus/fetch deploy/guest/vcpud-lock-histogram \
	deploy/guest/vcpud-xen-report \
	deploy/debian/root deploy/debian/build deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm \
	tests/lab/guest/init tests/lab/guest/online-new-cpu tests/lab/xen/guest/init tests/lab/xen/dom0/initrd-init \
	tests/lab/xen/dom0/lab-job
UNITS := vcpud.service vcpud-restore.service vcpud-deadman.path vcpud-deadman.service
# Folders whose README is installed beside docs/, so that every link leads somewhere.
DOCUMENTED := deploy deploy/guest policies simulator simulator/scenarios systemd tests tests/lab tests/lab/xen vcpud
UNITDIR := $(PREFIX)/lib/systemd/system
PROGRAM := $(PREFIX)/lib/vcpud
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
# Where the alerts' links to the runbook lead; a site that serves docs/ itself says where.
RUNBOOK ?= file://$(PREFIX)/share/doc/vcpud/docs/runbook.md
RUNBOOK_SHIPPED := file:///usr/share/doc/vcpud/docs/runbook.md
# `make install` needs a Python that every user of the host may run; one under somebody's home will not do.
INSTALL_PYTHON ?= /usr/bin/python3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help bootstrap demo lint types imports unit test report-check test-root prometheus-test study study-quick soak lab lab-quick lab-xen \
	lab-xen-quick literature stability bench format lock deb man install install-files \
	uninstall clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

bootstrap: $(VENV)/.project ## make .venv, installing missing Debian build packages

demo: $(VENV)/.project ## two simulated domains collapse, vcpud is switched on, they recover: build/demo.html
	@mkdir -p build
	@$(BIN)/vcpud demo --report build/demo.html

$(VENV)/bin/python:
	requirements/need-debian requirements/debian-build.txt </dev/null
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vcpud needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1): make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "$(PYTHON) cannot make environments: install its venv and ensurepip modules" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip first: older ones know neither dependency groups nor --build-constraint. The build tools that packages without a
# wheel ask for come from the same list, so that a foreign release never breaks a build.
$(VENV)/.packages: $(PINS) requirements/debian-build.txt | $(VENV)/bin/python
	requirements/need-debian requirements/debian-build.txt </dev/null
	$(BIN)/python -m pip install --quiet --upgrade "$$(grep '^pip==' $(PINS))"
	$(BIN)/python -m pip install --quiet --no-deps --build-constraint $(PINS) --requirement $(PINS)
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.packages
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

lint: $(VENV)/.project ## ruff and shellcheck
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	shellcheck $(SHELL_FILES)

types: $(VENV)/.project ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.project ## the import contracts of pyproject.toml
	$(BIN)/lint-imports

unit: $(VENV)/.project ## every test that needs no root, no browser and no Prometheus, in random order
	$(BIN)/python -m pytest -m "not root and not browser and not prometheus"

test: lint types imports unit ## all of the above: what must pass before every commit

report-check: $(VENV)/.project ## the report in a real Chromium, wide and narrow, light and dark
	requirements/need-debian requirements/debian-browser.txt </dev/null
	VCPUD_NOTHING_SKIPPED=1 $(BIN)/python -m pytest -m browser tests/browser

prometheus-test: $(VENV)/.project ## rules, alerts and dashboard under Debian's promtool and Prometheus
	requirements/need-debian requirements/debian-prometheus.txt prometheus </dev/null
	tests/prometheus/fetch
	VCPUD_NOTHING_SKIPPED=1 $(BIN)/python -m pytest -m prometheus tests/prometheus

study: $(COMPILED)/.built ## the seed study and the comparison of all policies, hours of both: build/study, build/compare
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud study --out build/study
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud compare --out build/compare
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud compare --stability --out build/compare

stability: $(COMPILED)/.built ## how steady vcpud's own policy is, minutes: build/compare/stability.json
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud compare --stability --out build/compare

$(STUDY): | $(COMPILED)/.built
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud study --out build/study

# A mirror of simulator/ made of links, with extension modules of the same sources beside those that are hot: whoever
# has it on PYTHONPATH simulates three times as fast. It is never installed, and built anew when a source has changed.
$(COMPILED)/.built: $(shell find simulator/vcpud_simulator -name '*.py') tests/bench/thinking.py | $(VENV)/.project
	rm -rf $(COMPILED)
	@mkdir -p build
	cp -rs "$(CURDIR)/simulator" $(COMPILED)
	@mkdir -p $(COMPILED)/bench
	ln -s "$(CURDIR)/tests/bench/thinking.py" $(COMPILED)/bench/
	cd $(COMPILED) && MYPYC_OPT_LEVEL=2 MYPYC_DEBUG_LEVEL=0 MYPYPATH="$(CURDIR):$(CURDIR)/policies" \
		"$(CURDIR)/$(BIN)/mypyc" --config-file= --explicit-package-bases $(HOT) >compiled.log 2>&1 || \
		{ cat compiled.log >&2; exit 1; }
	@touch $@

literature: $(COMPILED)/.built ## what others have published, measured: build/study/literature.json; half an hour
	PYTHONPATH="$(CURDIR)/$(COMPILED)" $(BIN)/vcpud study --literature --out build/study

study-quick: $(VENV)/.project ## the short forms of both, minutes
	$(BIN)/vcpud study --quick --out build/study-quick
	$(BIN)/vcpud compare --quick --out build/compare-quick

soak: $(VENV)/.project ## a day of 200 domains through the daemon: memory, growth, start; CYCLES=2000 for a short one
	cd tests && ../$(BIN)/python -m soak $(CYCLES)

test-root: $(VENV)/.project ## the package and its units under a real systemd in a container; needs root
	requirements/need-debian requirements/debian-systemd.txt </dev/null
	$(BIN)/python -m pytest -m root tests/packaging

lab: $(VENV)/.project ## measure on real guests, at most 30 minutes: build/lab.json and build/lab.png
	requirements/need-debian requirements/debian-lab.txt linux-image-cloud-amd64 </dev/null
	cd tests && ../$(BIN)/python -m lab

lab-quick: $(VENV)/.project ## the short form of it, at most 10 minutes
	requirements/need-debian requirements/debian-lab.txt linux-image-cloud-amd64 </dev/null
	cd tests && ../$(BIN)/python -m lab --quick

lab-xen: $(VENV)/.project ## the lab on a real Xen in an emulator, at most 60 minutes: build/lab-xen.json; needs root
	requirements/need-debian requirements/debian-lab.txt linux-image-amd64 </dev/null
	requirements/need-debian requirements/debian-systemd.txt </dev/null
	cd tests && ../$(BIN)/python -m lab.xen

lab-xen-quick: $(VENV)/.project ## the short form of it, at most 20 minutes; needs root
	requirements/need-debian requirements/debian-lab.txt linux-image-amd64 </dev/null
	requirements/need-debian requirements/debian-systemd.txt </dev/null
	cd tests && ../$(BIN)/python -m lab.xen --quick

bench: $(COMPILED)/.built $(STUDY) ## time simulator and decisions: build/bench.json; runs a whole study first where there is none (20 minutes)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements/bench.txt
	$(VENV)/bin/python -m pytest tests/bench

deb: $(VENV)/.project ## build/vcpud_VERSION_ARCHITECTURE.deb, built in a bare Debian 12; needs root
	requirements/need-debian requirements/debian-systemd.txt </dev/null
	deploy/debian/build

man: $(VENV)/.project ## man pages and shell completion in build/man, from the program itself
	$(BIN)/python deploy/man/generate.py build/man

format: $(VENV)/.project ## let ruff put the sources in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## write requirements/dev.txt anew with the newest versions pyproject.toml allows
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet --group build --group dev '.[dask,laboratory,top]'
	{ sed -n '/^#/p' $(PINS); build/lock/bin/python -m pip freeze --all --exclude vcpud; } > build/lock/dev.txt
	mv build/lock/dev.txt $(PINS)
	rm -rf build/lock

install: $(VENV)/.packages ## install program, units and a default configuration; knows DESTDIR and PREFIX
	@$(INSTALL_PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(INSTALL_PYTHON) is not a Python 3.11 or newer with venv: make install INSTALL_PYTHON=..." >&2; exit 1; }
	rm -rf build/wheel "$(DESTDIR)$(PROGRAM)"
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	install -d "$(DESTDIR)$(PROGRAM)"
	$(INSTALL_PYTHON) -m venv --without-pip "$(DESTDIR)$(PROGRAM)"
	$(BIN)/python -m pip --python "$(DESTDIR)$(PROGRAM)/bin/python3" install --quiet --no-compile \
		--build-constraint $(PINS) --constraint $(PINS) build/wheel/vcpud-*.whl
	chmod -R go+rX "$(DESTDIR)$(PROGRAM)"
	sed -i '1s|^#!.*|#!$(PROGRAM)/bin/python3|' "$(DESTDIR)$(PROGRAM)/bin/vcpud"
	install -d "$(DESTDIR)$(PREFIX)/bin"
	ln -sf ../lib/vcpud/bin/vcpud "$(DESTDIR)$(PREFIX)/bin/vcpud"
	@$(MAKE) --no-print-directory install-files
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemd-sysusers && systemd-tmpfiles --create vcpud.conf && systemctl daemon-reload && \
		echo "installed, not started: systemctl enable --now vcpud.service vcpud-deadman.path"; fi

# Everything but the program itself: `make install` and the Debian package have it in common.
install-files: $(VENV)/.project
	install -d "$(DESTDIR)$(UNITDIR)" build/units
	@for unit in $(UNITS); do \
		sed 's|/usr/bin/vcpud|$(PREFIX)/bin/vcpud|' "systemd/$$unit" > "build/units/$$unit" && \
		install -m 644 "build/units/$$unit" "$(DESTDIR)$(UNITDIR)/" || exit 1; \
	done
	install -D -m 644 systemd/sandbox.conf "$(DESTDIR)$(UNITDIR)/vcpud.service.d/50-sandbox.conf"
	install -D -m 644 systemd/sandbox.conf "$(DESTDIR)$(UNITDIR)/vcpud-.service.d/50-sandbox.conf"
	install -D -m 644 systemd/sysusers.conf "$(DESTDIR)$(PREFIX)/lib/sysusers.d/vcpud.conf"
	install -D -m 644 systemd/tmpfiles.conf "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/vcpud.conf"
	install -D -m 644 deploy/vcpud.yaml "$(DESTDIR)$(PREFIX)/share/vcpud/vcpud.yaml"
	install -D -m 644 systemd/xen.conf "$(DESTDIR)$(PREFIX)/share/vcpud/systemd/xen.conf"
	install -D -m 644 deploy/polkit/50-vcpud.rules "$(DESTDIR)$(PREFIX)/share/vcpud/polkit/50-vcpud.rules"
	install -m 644 deploy/polkit/fine-grained.rules "$(DESTDIR)$(PREFIX)/share/vcpud/polkit/fine-grained.rules"
	install -d "$(DESTDIR)$(PREFIX)/share/vcpud/prometheus" "$(DESTDIR)$(PREFIX)/share/vcpud/grafana"
	install -m 644 deploy/prometheus/*.yml "$(DESTDIR)$(PREFIX)/share/vcpud/prometheus/"
	sed -i 's|$(RUNBOOK_SHIPPED)|$(RUNBOOK)|' "$(DESTDIR)$(PREFIX)/share/vcpud/prometheus/alerts.yml"
	install -d "$(DESTDIR)$(PREFIX)/share/vcpud/guest"
	install -m 755 deploy/guest/vcpud-lock-histogram deploy/guest/vcpud-xen-report "$(DESTDIR)$(PREFIX)/share/vcpud/guest/"
	install -m 644 deploy/guest/*.service deploy/guest/*.rules deploy/guest/*.md "$(DESTDIR)$(PREFIX)/share/vcpud/guest/"
	@for page in README.md $(addsuffix /README.md,$(DOCUMENTED)) $(wildcard docs/*.md $(addprefix docs/,*.svg */*.svg */*.png)); do \
		install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/doc/vcpud/$$page" || exit 1; \
	done
	install -m 644 deploy/grafana/*.json "$(DESTDIR)$(PREFIX)/share/vcpud/grafana/"
	install -d "$(DESTDIR)$(SYSCONFDIR)/vcpud/conf.d"
	[ -e "$(DESTDIR)$(SYSCONFDIR)/vcpud/vcpud.yaml" ] || \
		install -m 644 deploy/vcpud.yaml "$(DESTDIR)$(SYSCONFDIR)/vcpud/vcpud.yaml"
	$(BIN)/python deploy/man/generate.py build/man
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/man/man5"
	gzip -9n <build/man/vcpud.1 >"$(DESTDIR)$(PREFIX)/share/man/man1/vcpud.1.gz"
	gzip -9n <build/man/vcpud.yaml.5 >"$(DESTDIR)$(PREFIX)/share/man/man5/vcpud.yaml.5.gz"
	chmod 644 "$(DESTDIR)$(PREFIX)/share/man/man1/vcpud.1.gz" "$(DESTDIR)$(PREFIX)/share/man/man5/vcpud.yaml.5.gz"
	install -D -m 644 build/man/vcpud.bash "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/vcpud"
	install -D -m 644 build/man/_vcpud "$(DESTDIR)$(ZSHDIR)/_vcpud"

uninstall: ## take away what install brought; configuration and state stay
	@if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
		systemctl disable --now vcpud-deadman.path vcpud.service || true; fi
	rm -rf "$(DESTDIR)$(PROGRAM)" "$(DESTDIR)$(PREFIX)/share/vcpud" "$(DESTDIR)$(PREFIX)/share/doc/vcpud" \
		"$(DESTDIR)$(UNITDIR)/vcpud.service.d/50-sandbox.conf" "$(DESTDIR)$(UNITDIR)/vcpud-.service.d/50-sandbox.conf"
	rm -f "$(DESTDIR)$(PREFIX)/bin/vcpud" "$(DESTDIR)$(PREFIX)/lib/sysusers.d/vcpud.conf" \
		"$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/vcpud.conf" \
		"$(DESTDIR)$(PREFIX)/share/man/man1/vcpud.1.gz" "$(DESTDIR)$(PREFIX)/share/man/man5/vcpud.yaml.5.gz" \
		"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/vcpud" \
		"$(DESTDIR)$(ZSHDIR)/_vcpud" \
		$(addprefix "$(DESTDIR)$(UNITDIR)"/,$(UNITS))
	-rmdir "$(DESTDIR)$(UNITDIR)/vcpud.service.d" "$(DESTDIR)$(UNITDIR)/vcpud-.service.d"

clean: ## take away .venv, build/ and every tool's cache
	rm -rf $(VENV) build dist .hypothesis .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
