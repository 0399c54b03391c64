#!/bin/sh
# Brings axe-core, the rules by which the pages are held to WCAG, into target/axe-core.
#
# Usage: tests/e2e/axe-core.sh
#
# It is not in this tree: MPL-2.0, Deque Systems. npm fetches it, of exactly this version and with exactly these bytes; tests only
# read the file. Does nothing when it is there already.
set -eu

version=4.14.1
sum=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

root=$(cd "$(dirname "$0")/../.." && pwd)
place=${CARGO_TARGET_DIR:-$root/target}/axe-core
packed=axe-core-$version.tgz

if [ -f "$place/$version/axe.min.js" ]; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "npm is missing; install Debian's package npm, then try again" >&2
    exit 2
fi
mkdir -p "$place"
cd "$place"
npm pack --silent "axe-core@$version" >/dev/null
if ! echo "$sum  $packed" | sha512sum --check --quiet; then
    rm -f "$packed"
    echo "what was fetched is not axe-core $version as it was when this was written" >&2
    exit 1
fi
rm -rf "$version.new"
mkdir "$version.new"
tar --extract --gzip --file "$packed" --directory "$version.new" --strip-components 1 package/axe.min.js package/LICENSE
mv "$version.new" "$version"
rm -f "$packed"
