#!/usr/bin/env sh
# Builds foreplan as it was at an earlier commit, for the test of the rolling upgrade, and prints where
# the program is; nothing, with the reason on stderr, where the commit is not at hand. Another commit can
# be named. The program is kept outside of the clone; the target folder is the clone's, whose
# dependencies serve both. To cargo a crate is its name, its version and its place in the workspace: the
# version says the commit, or today's crates would be taken for built.
set -eu

# The first with every role, limit, lease and command of a deployment: all that an upgrade meets.
# Move it on only when messages or entries get a new version, to the last commit with the one before.
wanted=${1:-55bff2d}

root=$(cd "$(dirname "$0")/.." && pwd)
bin=${FOREPLAN_BIN:-$HOME/.cache/foreplan/bin}
if ! commit=$(git -C "$root" rev-parse --quiet --verify --short=12 "$wanted^{commit}"); then
    echo "skipped: this clone has no commit $wanted (is it a shallow one?), so no upgrade from it is tried" >&2
    exit 0
fi
program=$bin/foreplan-$commit
if [ ! -x "$program" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    git -C "$root" archive "$commit" | tar -x -C "$work"
    sed -i "s/^version = \"\(.*\)\"$/version = \"\1-g$commit\"/" "$work/Cargo.toml"
    target=${CARGO_TARGET_DIR:-$root/target}
    # A test beside the program: with it the dependencies are built as those of all tests are.
    (cd "$work" && CARGO_TARGET_DIR=$target cargo build --workspace --bin foreplan --test versions >&2)
    mkdir -p "$bin"
    cp "$target/debug/foreplan" "$program.new"
    rm "$target/debug/foreplan" # or a test might take it for today's
    mv "$program.new" "$program"
fi
echo "$program"
