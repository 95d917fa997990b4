# A Debian that boots in a container of systemd-nspawn. To be sourced; it takes root, debootstrap and systemd-container.
#
#   container_start NAME   boots a fresh copy of the tree; everything it has is below $tree
#   inside COMMAND…        runs a command in it
#   beside COMMAND…        runs a command of this machine in its network
#   container_stop         shuts it down and removes it; nothing of it is left, no process and no mount

cache=target/debian/bookworm
tree= nspawn= leader=

# Debian as it comes, with systemd; fetched once.
container_prepare() {
    [[ -e $cache/etc/debian_version ]] && return
    rm -rf "$cache.partial"
    mkdir -p "$cache.partial"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,udev bookworm "$cache.partial" >"$cache.log" ||
        { tail "$cache.log" >&2 && return 1; }
    rm -f "$cache.partial"/var/cache/apt/archives/*.deb
    mv "$cache.partial" "$cache"
}

container_start() {
    container_prepare
    tree=$(mktemp -d "$PWD/target/debian/$1.XXXXXX")
    cp -a --reflink=auto "$cache/." "$tree"
    # What an installer writes, and debootstrap does not.
    echo "127.0.0.1 localhost" >"$tree/etc/hosts"
    container_boot
}

container_boot() {
    systemd-nspawn --quiet --directory="$tree" --machine="$(basename "$tree")" --boot --register=no --keep-unit \
        --private-network --console=read-only >>"$tree.console" 2>&1 </dev/null &
    nspawn=$!
    local i
    for ((i = 0; i < 600; i++)); do
        leader=$(pgrep --parent "$nspawn" | head -1) || true
        if [[ -n $leader ]] && inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then
            return
        fi
        sleep 0.2
    done
    echo "the container does not boot:" >&2
    tail "$tree.console" >&2
    return 1
}

# With --keep-unit the container ends at a reboot, for whoever started it to start it again.
container_reboot() {
    inside systemctl reboot || true
    wait "$nspawn" || true
    container_boot
}

inside() { nsenter --target "$leader" --all -- "$@"; }

beside() { nsenter --target "$leader" --net -- "$@"; }

container_stop() {
    [[ -n $nspawn ]] || return 0
    local i
    # Whoever does not listen is ended.
    inside systemctl poweroff 2>/dev/null || kill -TERM "$nspawn" 2>/dev/null || true
    for ((i = 0; i < 150; i++)); do
        kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL "$nspawn" 2>/dev/null || true
    wait "$nspawn" 2>/dev/null || true
    nspawn=
    if grep -F "$tree" /proc/self/mountinfo; then
        echo "the container has left mounts" >&2
        return 1
    fi
    rm -rf "$tree" "$tree.console"
}
