# Meridian. `make run` and `make test` do all the set-up on a machine with Go, Node and make.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TOOLS     := $(CURDIR)/.tools
LDFLAGS   := -s -w -X main.version=$(VERSION)
FUZZTIME  ?= 30s
export PATH := $(TOOLS):$(PATH)

GOLANGCI  := golangci-lint-v2.15.0
GOFUMPT   := gofumpt-v0.12.0
BUF       := buf-v1.75.0
PROTOCGO  := protoc-gen-go-v1.36.12
GOTESTSUM := gotestsum-v1.13.0
PEER      := livekit-server-v1.13.3

.PHONY: help build run web test test-go test-web test-browser lint fmt proto geodb bench-peers fuzz soak tools clean check-env

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

check-env:
	@scripts/check-env

build: check-env web ## bin/meridian with the page inside
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/meridian ./cmd/meridian

run: build ## a three-region mesh on this machine, and a page to call each other
	bin/meridian dev --delay us-east:eu-west=40ms,eu-west:ap-south=65ms,us-east:ap-south=100ms

web: web/dist/index.html ## the page, as embedded in the binary

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json web/index.html $(shell find web/src web/public -type f 2>/dev/null) $(wildcard web/*.ts)
	cd web && npm run --silent build

test: lint test-go test-web test-browser ## everything, browser tests included

# The tests of bench/wan make network namespaces, which takes root: others run without them.
NO_NETNS := $(shell [ "$$(id -u)" = 0 ] || echo MERIDIAN_NO_NETNS=1)

test-go: check-env $(TOOLS)/$(GOTESTSUM) ## Go tests with the race detector; what simulates minutes of media without it
	@scripts/need-netns
	$(NO_NETNS) scripts/race $(TOOLS)/$(GOTESTSUM) ./...
	$(TOOLS)/$(GOTESTSUM) --format pkgname-and-test-fails -- -shuffle=on -timeout 10m ./cascade ./bench/failover

test-web: web/node_modules/.package-lock.json ## types, lint and unit tests of the page
	cd web && npm run --silent check && npm run --silent test

test-browser: build ## calls between real browsers over a real mesh
	scripts/need-chromium
	cd web && npm run --silent e2e

lint: check-env $(TOOLS)/$(GOLANGCI) $(TOOLS)/$(BUF) ## go vet, golangci-lint (gofumpt included), buf lint
	$(GO) vet ./...
	$(TOOLS)/$(GOLANGCI) run ./...
	$(TOOLS)/$(BUF) lint

fmt: $(TOOLS)/$(GOFUMPT) ## format the Go code
	$(TOOLS)/$(GOFUMPT) -l -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

proto: $(TOOLS)/$(BUF) $(TOOLS)/$(PROTOCGO) ## generate internal/meshpb
	ln -sf $(PROTOCGO) $(TOOLS)/protoc-gen-go
	$(TOOLS)/$(BUF) generate

geodb: ## make the embedded geolocation database anew
	$(GO) run ./geo/mkdb

bench-peers: build $(TOOLS)/$(PEER) ## Meridian and a peer under the same load, in turn; about 15 minutes on a quiet machine
	scripts/bench-peers $(TOOLS)/$(PEER) bench/results

fuzz: ## run every fuzz target for FUZZTIME, or those of the folders in FUZZ
	scripts/fuzz $(FUZZTIME) $(FUZZ)

soak: ## eight hours of churn between nodes in virtual time (about five minutes)
	MERIDIAN_SOAK_HOURS=8 $(GO) test -count=1 -timeout 2h -v -run 'TestSoak$$' ./cascade

tools: $(TOOLS)/$(GOLANGCI) $(TOOLS)/$(GOFUMPT) $(TOOLS)/$(BUF) $(TOOLS)/$(PROTOCGO) $(TOOLS)/$(GOTESTSUM) ## the tools, at the versions this repository is checked with

$(TOOLS)/$(PEER):
	scripts/install-tool $@ github.com/livekit/livekit-server/cmd/server@v1.13.3
$(TOOLS)/$(GOLANGCI):
	scripts/install-tool $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
$(TOOLS)/$(GOFUMPT):
	scripts/install-tool $@ mvdan.cc/gofumpt@v0.12.0
$(TOOLS)/$(BUF):
	scripts/install-tool $@ github.com/bufbuild/buf/cmd/buf@v1.75.0
$(TOOLS)/$(PROTOCGO):
	scripts/install-tool $@ google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
$(TOOLS)/$(GOTESTSUM):
	scripts/install-tool $@ gotest.tools/gotestsum@v1.13.0

clean: ## remove what was built
	rm -rf bin web/dist/assets web/dist/index.html web/node_modules $(TOOLS)
