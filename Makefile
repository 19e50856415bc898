# The front door; CMake and Ninja do the work. "make" alone prints this list.
#
# Variables: PREFIX and DESTDIR for install; EXAMPLE for run; ARGS is passed on to the scripts behind
# test, bench, fuzz and crash.
PREFIX ?= /usr/local
EXAMPLE ?= examples/first.sql
ARGS ?=
CASES ?= 100
SEED ?= 1
SEEDS ?= 2000
CANARY ?=
CANARY_SEEDS ?= 1000
export MILLRACE_SOURCE_DIR := $(CURDIR)

.PHONY: help run build test bench fuzz fuzz-coverage crash sim mutants limits differential soak evidence lint fmt install clean
.DEFAULT_GOAL := help

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

run: build ## install what is needed, build, run the first example
	@build/release/millrace run $(EXAMPLE)

build: ## install what is needed and build build/release/millrace
	@tools/setup --quiet
	@tools/build release

test: ## every test, in four builds; ends with "N passed, N failed"
	@tools/setup --dev --kafka-broker --postgres --quiet
	@tools/run-tests $(ARGS)

bench: ## the benchmarks
	@tools/setup --kafka-broker --quiet
	@tools/build release all bench_programs
	@tools/script release bench/run $(ARGS)

fuzz: ## the fuzzers of tests/fuzz, two at a time (MINUTES=10 for all of them; ARGS=csv: some)
	@tools/setup --dev --quiet
	@tools/build fuzz fuzz
	@FUZZ_MINUTES=$(or $(MINUTES),10) tools/script fuzz tests/fuzz/run $(ARGS)

fuzz-coverage: ## what lines of their parsers the fuzzers' corpora reach
	@tools/setup --dev --quiet
	@tools/build fuzz-coverage test_fuzz
	@tools/script fuzz-coverage tests/fuzz/coverage $(ARGS)

crash: ## every power loss and damaged file on the simulated disk; every kill and error of the real program
	@tools/setup --quiet
	@tools/build release
	@tools/script release tests/crash/states
	@tools/script release tests/crash/run $(ARGS)
	@tools/script release tests/crash/run --scenario file-to-file --scenario window-to-file --scenario dstream-socket --phases ENOSPC,EIO+,EINTR,short,delay

sim: ## the product in a simulated world: SEED=n replays one (VERBOSE=1: its trace), SEEDS=2000 many, CANARY=1 planted bugs
	@tools/setup --quiet
	@MILLRACE_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) tests/sim/run $(if $(CANARY),--canary $(CANARY_SEEDS),$(if $(filter command line,$(origin SEED)),$(SEED),--seeds 1-$(SEEDS)))

mutants: ## leave out each sync, check and fence; a test must notice
	@tools/setup --dev --quiet
	@tools/build asan
	@tools/script asan tests/mutants/run $(ARGS)

limits: ## a flood, ten million keys, a join of a million, a line of a GiB: each in a cage of a stated size
	@tools/setup --quiet
	@tools/build release
	@QUICK= MILLRACE_LIMITS=long tools/script release tools/run-unittest tests/system/test_limits.py $(ARGS)

differential: ## many random queries against DuckDB, and the vectors under many courses (CASES=100 SEED=1)
	@tools/setup --quiet
	@tools/build release
	@MILLRACE_CASES=$(CASES) MILLRACE_SEED=$(SEED) tools/script release build/release/tests/test_sql_random
	@MILLRACE_CASES=$(CASES) MILLRACE_SEED=$(SEED) tools/script release build/release/tests/test_sql_metamorphic

soak: ## real programs under random kills for MINUTES=60, two builds in turn
	@tools/setup --dev --kafka-broker --quiet
	@tools/build release
	@tools/build clang
	@tools/script release tests/soak/run --minutes $(or $(MINUTES),60) --build build/release --build build/clang $(ARGS)

evidence: ## run SUITE (test, crash, mutants, sim, differential, fuzz, limits, soak) and put its figures on docs/evidence.md
	@tools/evidence run $(SUITE)

lint: ## tidy, clang-format, pylint, shellcheck, cppcheck, clang-tidy; reads only what was edited since it passed
	@tools/setup --dev --quiet
	@tools/lint

fmt: ## put every C file into the house's form
	@tools/setup --dev --quiet
	@tools/lint --fix-format

install: build ## install to PREFIX (/usr/local): program, libraries, headers, millrace.pc
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)" >build/install.log || { cat build/install.log; exit 1; }
	@echo "installed to $(DESTDIR)$(PREFIX)"

clean: ## remove build/ (the cache of tools/setup stays)
	@rm -rf build
