#!/usr/bin/env sh
# Builds Jaeger 2 with Go, outside of the clone, for the tests that read traces back.
# Jaeger's module has replace directives, so that `go install` refuses it: it is built as it is.
set -eu

version=v1.76.0 # the release that is also 2.13.0
bin=${FOREPLAN_BIN:-$HOME/.cache/foreplan/bin}

if [ -x "$bin/jaeger" ]; then
    echo "$bin/jaeger is there"
    exit 0
fi
command -v go >/dev/null 2>&1 || { echo "skipped: no Go here, so no Jaeger; its tests say so too"; exit 0; }

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
go mod init local/jaeger >/dev/null 2>&1
module=github.com/jaegertracing/jaeger
source=$(go mod download -json "$module@$version" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')
cp -r "$source" jaeger
chmod -R u+w jaeger
cd jaeger
mkdir -p "$bin"
CGO_ENABLED=0 go build -o "$bin/jaeger.new" ./cmd/jaeger
mv "$bin/jaeger.new" "$bin/jaeger"
echo "built $bin/jaeger"
