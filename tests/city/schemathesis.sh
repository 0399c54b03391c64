#!/bin/sh
# Starts a seeded reference city of its own, holds it to docs/city-openapi.yaml, and ends it again.
#
# Usage: tests/city/schemathesis.sh [--examples N]
#
# Builds the city first, so that it needs no more than cargo, Python with venv, curl and openssl; with REFERENCE_CITY=PROGRAM
# it takes that one. Ends as tests/city/schemathesis.py does: 0 if nothing was found, 1 for violations, 2 if it could not begin.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
scratch=$(mktemp -d)
city=
end() {
    if [ -n "$city" ]; then
        kill "$city" 2>/dev/null || true
        wait "$city" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap end EXIT
trap 'exit 2' INT TERM

if [ -z "${REFERENCE_CITY:-}" ]; then
    (cd "$root" && "${CARGO:-cargo}" build --quiet --package reference-city --bin reference-city) || exit 2
    REFERENCE_CITY=$target/debug/reference-city
fi
RUST_LOG=warn "$REFERENCE_CITY" --dir "$scratch/city" --listen 127.0.0.1:0 --control 127.0.0.1:0 --seed \
    --ready-file "$scratch/ready.json" 2>"$scratch/log" &
city=$!
waited=0
while [ ! -f "$scratch/ready.json" ]; do
    if [ "$waited" -ge 300 ] || ! kill -0 "$city" 2>/dev/null; then
        echo "the city does not open:" >&2
        cat "$scratch/log" >&2
        exit 2
    fi
    waited=$((waited + 1))
    sleep 0.1
done

code=0
python3 "$root/tests/city/schemathesis.py" "$scratch/ready.json" "$@" || code=$?
[ "$code" -eq 0 ] || cat "$scratch/log" >&2
exit "$code"
