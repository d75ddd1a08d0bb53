#!/usr/bin/env bash
# Run a command with a Docker Engine reachable if this machine can have one; say so and go on without if it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
if settings=$(tools/engine.sh env); then
    eval "$settings"
else
    echo "no Docker Engine: tests that need one skip (or fail, where CI or ITEST_REQUIRE is set)" >&2
fi
exec "$@"
