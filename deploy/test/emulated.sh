# A Debian for arm64 whose programs qemu-user runs. To be sourced; it takes root, debootstrap, iproute2 and Linux 6.7 or
# newer: since then a user namespace has emulators of its own, and those of this machine stay as they are.
#
#   emulated_start NAME QEMU   takes a fresh copy of the tree; everything it has is below $tree. QEMU: a static one
#   inside COMMAND…            runs a command in it
#   beside COMMAND…            runs a command of this machine in its network, which is a loopback and nothing else
#   emulated_stop              ends what runs in it and removes it; nothing of it is left, no process and no mount

arm64_tree=target/debian/bookworm-arm64
tree= holder= leader=

# Debian as it comes, with what the packages depend on; fetched and configured once, which takes some minutes.
emulated_prepare() {
    [[ -e $arm64_tree/etc/debian_version ]] && return
    rm -rf "$arm64_tree.partial"
    debootstrap --variant=minbase --foreign --arch=arm64 --include=systemd bookworm "$arm64_tree.partial" \
        >"$arm64_tree.log" || { tail "$arm64_tree.log" >&2 && return 1; }
    tree=$PWD/$arm64_tree.partial
    emulated_enter "$1"
    # In a user namespace nobody makes devices, so debootstrap is not to try; they have been made above.
    inside env container=lxc /debootstrap/debootstrap --second-stage >>"$arm64_tree.log" ||
        { tail "$arm64_tree.log" >&2 && return 1; }
    emulated_leave
    rm -f "$tree"/var/cache/apt/archives/*.deb
    mv "$tree" "$arm64_tree"
}

emulated_start() {
    emulated_prepare "$2"
    tree=$(mktemp -d "$PWD/target/debian/$1.XXXXXX")
    cp -a --reflink=auto "$arm64_tree/." "$tree"
    # What an installer writes, and debootstrap does not.
    echo "127.0.0.1 localhost" >"$tree/etc/hosts"
    emulated_enter "$2"
}

# Namespaces that live as long as their first process.
emulated_enter() {
    local i
    unshare --user --mount --net --pid --fork --kill-child bash -c 'trap exit TERM; sleep infinity & wait' &
    holder=$! leader=
    for ((i = 0; i < 100; i++)); do
        leader=$(pgrep --parent "$holder") && break
        sleep 0.1
    done
    # Everybody is who he is outside: packages have users and groups.
    echo "0 0 4294967295" >"/proc/$leader/uid_map"
    echo "0 0 4294967295" >"/proc/$leader/gid_map"
    nsenter --target "$leader" --user --mount --net --pid -- bash -euc '
        ip link set lo up
        mount -t proc proc "$1/proc"
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        # The first 20 bytes of an ELF file: 64 bits, little-endian, a program, EM_AARCH64 (0xb7); and which of their
        # bits matter. P: the emulator is told what the program was called as; F: it is opened now, outside the tree.
        none="\x00\x00\x00\x00" all="\xff\xff\xff\xff"
        elf="\x7fELF\x02\x01\x01\x00$none$none\x02\x00\xb7\x00" matters="$all\xff\xff\xff\x00$all$all\xfe\xff\xff\xff"
        echo ":arm64:M::$elf:$matters:$2:PF" >/proc/sys/fs/binfmt_misc/register' emulated "$tree" "$1"
}

inside() { nsenter --target "$leader" --user --mount --net --pid -- chroot "$tree" "$@"; }

beside() { nsenter --target "$leader" --net -- "$@"; }

emulated_leave() {
    [[ -n $holder ]] || return 0
    # With the first process all others of its namespace end.
    kill -TERM "${leader:-$holder}" 2>/dev/null || true
    wait "$holder" 2>/dev/null || true
    holder= leader=
}

emulated_stop() {
    emulated_leave
    if grep -F "$tree" /proc/self/mountinfo; then
        echo "the emulated Debian has left mounts" >&2
        return 1
    fi
    rm -rf "$tree"
}
