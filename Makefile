# Everything a contributor or CI calls. `make verify` only reads; `make fix` rewrites.

CARGO ?= cargo
# Flags for `keyrum dev`, such as ARGS="--port 0 --ephemeral".
ARGS ?=
TARGET = $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BUILT = KEYRUM_BIN=$(TARGET)/debug/keyrum \
  KEYRUM_POWERLOSS_LIBRARY=$(TARGET)/debug/libkeyrum_powerloss.so
# Flags for `make bench`, such as BENCH_ARGS=--write.
BENCH_ARGS ?=
# Succeeds where there is a browser that tests know.
HAS_BROWSER = command -v chromium || command -v chromium-browser || command -v google-chrome
# The simulation's first seed, how many there are, and how many Regions each has.
SEED ?= 1
SEEDS ?= 200
REGIONS ?= 3

.PHONY: run test test-long verify verify-model fix bench lab browser tools

# Builds Keyrum and starts two Regions of three nodes each in one process.
run: tools
	$(CARGO) build --release --package keyrum
	@exec $(CARGO) run --quiet --release --package keyrum -- dev $(ARGS)

# Everything but the long fault runs. The tests start the binary and preload the library built here.
# Where there is the openssl program, it judges what is made here, and the other way round.
test: tools
	$(CARGO) build --workspace
	$(BUILT) $(CARGO) test --workspace
	@if openssl version 2>/dev/null | grep -q '^OpenSSL 3' && command -v python3 >/dev/null; then \
	  $(CARGO) test --package keyrum-crypto --lib -- --ignored && \
	  $(BUILT) $(CARGO) test --package keyrum-tests --test api -- --ignored --skip boto3_; \
	else \
	  echo "make: openssl 3 or python3 is not here; what is checked against openssl is left out" >&2; \
	fi
	@if command -v aws >/dev/null && python3 -c 'import boto3' 2>/dev/null; then \
	  $(CARGO) test --package keyrum-server --lib -- --ignored boto3_ && \
	  $(BUILT) $(CARGO) test --package keyrum-tests --test api -- --ignored boto3_; \
	else \
	  echo "make: boto3 or the AWS CLI is not here; what is checked with them is left out" >&2; \
	fi
	@{ $(HAS_BROWSER); } >/dev/null || \
	  echo "make: chromium is not here; what the lab's report looks like in a browser is left out (make browser)" >&2

# The long fault runs, and nothing else.
test-long: tools
	$(CARGO) build --workspace
	$(BUILT) $(CARGO) test --package keyrum-tests --test cluster --test powerloss --test regions -- --ignored
	$(CARGO) test --package keyrum-lab --test sim -- --ignored many_

# Format, lints with warnings denied, and the checks of tests/tidy. Changes no file.
verify: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --package keyrum-tests --test tidy

# Every interleaving of multi-Region commands and messages, with a larger bound than `make test`.
verify-model: tools
	$(CARGO) test --package keyrum-state --test model -- --ignored --nocapture

# Formats, and applies what clippy can apply.
fix: tools
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

# Answers the questions of benches/ on this machine.
bench: tools
	$(CARGO) run --release --package keyrum-benches -- all $(BENCH_ARGS)

# Simulated experiments, SEEDS of them from SEED on, about five minutes on 2 cores; and the first one's report.
# The same seed gives the same trace.
lab: tools
	$(CARGO) build --release --package keyrum
	$(CARGO) run --quiet --release --package keyrum -- lab sim --seed $(SEED) --regions $(REGIONS) \
	  --report target/lab-report.html >/dev/null && echo "the report of seed $(SEED): target/lab-report.html"
	$(CARGO) run --quiet --release --package keyrum -- lab sim --seed $(SEED) --seeds $(SEEDS) --regions $(REGIONS)

# The browser that the lab's report is tested in. Apart from `tools`: nobody needs it to run Keyrum.
browser:
	@{ $(HAS_BROWSER); } >/dev/null || { \
	  as=; [ "$$(id -u)" = 0 ] || as='sudo -n'; \
	  $$as apt-get update -q && \
	  $$as env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; \
	} || { echo "make: chromium cannot be installed here; install it by hand" >&2; exit 1; }

tools:
	@command -v $(CARGO) >/dev/null || { \
	  echo "make: there is no cargo; install a Rust toolchain (https://rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null || { \
	  echo "make: there is no C compiler; install it with: apt-get install build-essential" >&2; exit 1; }
