#!/usr/bin/env bash
# Builds the Debian packages grid-agent, grid-broker and grid-anchor into target/debian/REVISION.
#
# Usage: deploy/build-deb.sh [--arch ARCH] [--revision N] [--no-build]
#
#   --arch ARCH    amd64, arm64 or armhf (default: this machine's). For another than this machine's it takes that rustup
#                  target, its linker and an emulator, for arm64: rustup target add aarch64-unknown-linux-gnu;
#                  apt install gcc-aarch64-linux-gnu qemu-user. Such packages must install on Debian bookworm, which
#                  Raspberry Pi OS is made of; that they do is checked. Where the linker's libc is newer than
#                  bookworm's, take bookworm's for it (libc6-dev-arm64-cross), as deploy/test/arm64 does
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

cross=() emulator=() binaries=target/release
if [[ $arch != "$host" ]]; then
    cross=(--target "$target") binaries=target/$target/release
    # As Debian's cross compiler and its libraries call it.
    gnu=${target/-unknown/} gnu=${gnu/armv7/arm}
    variable=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
    export "$variable=${!variable:-$gnu-gcc}"
    # Never with a libc that is installed besides.
    emulator=("qemu-${gnu%%-*}" -L "/usr/$gnu" -E "LD_LIBRARY_PATH=/usr/$gnu/lib")
fi

# The libc of Debian bookworm.
oldest_libc=2.36

# Says why a package for another machine would not install, or its program not run, on bookworm.
check_libc() {
    local program=$1 package=$2 needed depends
    needed=$(readelf --version-info "$program" | sed -nE 's/.*Name: GLIBC_([0-9.]+) .*/\1/p' | sort -V | tail -1)
    # Where dpkg-shlibdeps knows the libc of the cross compiler alone it names the architecture, too.
    depends=$(dpkg-deb --field "$package" Depends | sed -nE "s/.*\blibc6(:$arch)? \(>= ([0-9.]+)\).*/\2/p")
    if [[ -z $needed || -z $depends ]] || dpkg --compare-versions "$depends" gt "$oldest_libc" ||
        dpkg --compare-versions "$needed" gt "$depends"; then
        echo "build-deb.sh: $package: its program needs libc ${needed:-?} and it depends on libc6 ${depends:-?};" \
            "expected at most $oldest_libc, and to depend on what it needs; see --arch in --help" >&2
        return 1
    fi
}

tool=target/tools/bin/cargo-deb
[[ -x $tool ]] || cargo install cargo-deb --version 3.8.0 --locked --root target/tools

packages=(grid-agent grid-broker grid-anchor)
# All at once: chosen alone, each would have its dependencies built anew with the features that it needs alone. The date is
# the packages' alone: each other one would have all anew that is built on a library in C.
((build == 0)) || env --unset=SOURCE_DATE_EPOCH cargo build --release --workspace "${packages[@]/#/--bin=}" "${cross[@]}"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
mkdir -p target/debian/work "target/debian/$revision"
rm -rf target/debian/work/*
for package in "${packages[@]}"; do
    work=target/debian/work/$package
    mkdir -p "$work/man"
    "${emulator[@]}" "$binaries/$package" man "$work/man"
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
    [[ $arch == "$host" ]] ||
        check_libc "$binaries/$package" "target/debian/$revision/${package}_$version-${revision}_$arch.deb"
done
ls -l "target/debian/$revision"/*"_$version-${revision}_$arch.deb"
