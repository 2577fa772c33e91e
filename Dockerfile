# The image holds one static binary and runs as nobody in particular. It needs
# DATABASE_URL and PROMPTOPS_MASTER_KEYS; see "Configuration" in README.md.
#   docker build --build-arg VERSION=$(git describe --tags --always) -t promptops .

FROM --platform=$BUILDPLATFORM node:22-bookworm-slim AS assets
WORKDIR /src
COPY static/package.json static/package-lock.json static/
RUN npm ci --prefix static --no-audit --no-fund
COPY static static
# The style sheet holds the classes that the pages use.
COPY views views
RUN npm run --prefix static build

FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=assets /src/static/dist static/dist
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /promptops ./cmd/promptops

# Nothing but the binary, which brings its time zones, and the certificates that
# providers are verified with.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /promptops /promptops
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/promptops"]
CMD ["serve"]
