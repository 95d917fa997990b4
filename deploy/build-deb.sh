#!/usr/bin/env bash
# Builds the Debian packages grid-agent, grid-broker and grid-anchor into target/debian/REVISION.
#
# Usage: deploy/build-deb.sh [--arch ARCH] [--revision N] [--no-build]
#
#   --arch ARCH    amd64, arm64 or armhf (default: this machine's). For another than this machine's it takes that rustup
#                  target and its linker, for arm64: rustup target add aarch64-unknown-linux-gnu;
#                  apt install gcc-aarch64-linux-gnu
#   --revision N   the part of the version after the hyphen (default: 1)
#   --no-build     package what target/release holds already
#
# It takes Rust and, once, a few minutes to install cargo-deb below target/tools.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(dpkg --print-architecture)
arch=$host revision=1 build=1
while (($#)); do
    case $1 in
        --arch) arch=${2:?--arch needs a value} && shift 2 ;;
        --revision) revision=${2:?--revision needs a value} && shift 2 ;;
        --no-build) build=0 && shift ;;
        -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit ;;
        *) echo "build-deb.sh: unknown argument $1; see --help" >&2 && exit 2 ;;
    esac
done
case $arch in
    amd64) target=x86_64-unknown-linux-gnu ;;
    arm64) target=aarch64-unknown-linux-gnu ;;
    armhf) target=armv7-unknown-linux-gnueabihf ;;
    *) echo "build-deb.sh: --arch $arch: expected amd64, arm64 or armhf" >&2 && exit 2 ;;
esac

cross=() binaries=target/release
if [[ $arch != "$host" ]]; then
    cross=(--target "$target") binaries=target/$target/release
    linker=${target/-unknown/}-gcc
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
    export "$variable=${!variable:-${linker/armv7/arm}}"
fi

tool=target/tools/bin/cargo-deb
[[ -x $tool ]] || cargo install cargo-deb --version 3.8.0 --locked --root target/tools

# All at once: chosen alone, each would have its dependencies built anew with the features that it needs alone.
((build == 0)) || cargo build --release --workspace --bins "${cross[@]}"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
mkdir -p target/debian/work "target/debian/$revision"
rm -rf target/debian/work/*
for package in grid-agent grid-broker grid-anchor; do
    work=target/debian/work/$package
    mkdir -p "$work/man"
    # Manual pages say the same on every machine; those of another architecture are run by qemu-user.
    "$binaries/$package" man "$work/man"
    # Debian's form of CHANGELOG.md.
    {
        echo "$package ($version-$revision) stable; urgency=medium"
        echo
        awk -v version="$version" '/^## /{in_it = ($2 == version)} in_it && /^- /{print "* " substr($0, 3)} in_it && /^  /' CHANGELOG.md |
            fold --spaces --width 74 | sed -E 's/^/    /; s/^    \*/  */; s/ +$//'
        echo
        echo " -- The self-balancing grid <grid@example.org>  $(date -R -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}")"
    } >"$work/changelog"
    "$tool" deb --package "$package" --no-build --quiet --strip --deb-revision "$revision" --output "target/debian/$revision" "${cross[@]}"
done
ls -l "target/debian/$revision"/*"_$version-${revision}_$arch.deb"
