#!/bin/sh
# Builds the program of scripts/previous-release in a worktree under build/previous, and prints its path. Called by the Makefile.
set -eu
cd "$(dirname "$0")/.."
: "${CARGO:=cargo}"
commit=$(grep -v '^#' scripts/previous-release | head -n 1)
tree=build/previous

git cat-file -e "$commit^{commit}" 2>/dev/null || { echo "commit $commit is not here: fetch the whole history (git fetch --unshallow)" >&2; exit 1; }
if [ -e "$tree/.git" ]; then
    git -C "$tree" checkout --quiet --detach "$commit"
else
    mkdir -p build
    git worktree prune
    git worktree add --quiet --detach "$tree" "$commit"
fi
# Its own target folder in its worktree, so that the builds do not interfere.
(cd "$tree" && CARGO_TARGET_DIR="$PWD/target" "$CARGO" build --locked --package encaje >&2)
echo "$tree/target/debug/encaje"
