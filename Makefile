# Two commands: `make demo` and `make test`. Each sets up what it needs and is cheap to run again.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

.PHONY: help setup demo test bench bench-calls bench-peers bench-vad bench-whisper fuzz deny clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## install what building and testing need (Debian, Ubuntu)
	@scripts/setup

demo: ## build, then show the main job on a real call (DEMO_ONCE=1 ends by itself)
	@scripts/demo

test: ## set up, then everything: format, lints, unit, real calls
	@scripts/test

bench: ## criterion benches of the media path and the recorder
	@scripts/setup
	cargo bench

bench-calls: ## real calls, measured: errors, latency, loss, CPU (ARGS='--calls 20 --at-once 4')
	@scripts/setup
	cargo bench --bench calls -- $(ARGS)

bench-peers: ## the same calls to Sidetone and to other recorders (ARGS='--calls 100 --seconds 20'); see benches/peers/README.md
	@scripts/setup
	cargo build --release
	benches/peers/compare $(ARGS)

bench-whisper: ## the same audio and model to Sidetone and to whisper.cpp's own tools; see benches/whisper/README.md
	@scripts/setup
	benches/whisper/compare $(ARGS)

bench-vad: ## the voice detector beside Silero on telephone audio; see benches/vad/README.md
	@scripts/setup
	benches/vad/compare $(ARGS)

fuzz: ## each fuzz target for ten minutes, then a table (ARGS='2 rtp path')
	@scripts/setup --build-only
	@scripts/fuzz $(ARGS)

deny: ## licences, bans and sources of all dependencies (cargo-deny, built once)
	@scripts/setup --build-only
	@PATH="$$PWD/build/tools/bin:$$HOME/.cargo/bin:$$PATH" command -v cargo-deny >/dev/null || cargo install --locked --quiet --root build/tools cargo-deny
	PATH="$$PWD/build/tools/bin:$$HOME/.cargo/bin:$$PATH" cargo deny --locked check --hide-inclusion-graph licenses bans sources

clean: ## stop the lab and remove all that was built
	@scripts/lab stop-all || true
	rm -rf build target
