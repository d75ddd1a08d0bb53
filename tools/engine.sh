#!/usr/bin/env bash
# A Docker Engine, and the images the tests need, on a machine that may have neither.
#
#     eval "$(tools/engine.sh env)"     # then run the tests
#
# Where an engine answers it is used as it is, and where a registry answers images are pulled from it. Everything below
# is for the other machines: build agents and sandboxes that reach Debian's packages but no registry. There a private
# dockerd is started, and stand-ins for the images are built from Debian's packages. A stand-in keeps the contract of
# the official image (environment, entrypoint, volumes, ports, user), because that is what the users of itest run.
#
# Only `env` writes to stdout, and only shell code for `eval`; everything said to a reader goes to stderr.

set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"   # `su` without `-` leaves out the directories of iptables and ip

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STATE=${ITEST_ENGINE_DIR:-/var/tmp/itest-engine}
SOCKET=$STATE/docker.sock
PIDFILE=$STATE/dockerd.pid
LOG=$STATE/dockerd.log
BRIDGE=itest-$(cksum <<<"$STATE" | cut -d ' ' -f 1 | cut -c 1-8)   # our own: docker0 may be somebody else's daemon's
START_TIMEOUT=60            # seconds until dockerd must answer; it takes 2 to 5
PULL_TIMEOUT=600            # seconds for one image from a registry that was seen to answer
PROBE_TIMEOUT=20            # seconds for the first and smallest pull, which finds out whether a registry answers
BUILD_TIMEOUT=600           # seconds for one stand-in
SUITE=trixie                # Debian 13: PostgreSQL 17, Redis 8, busybox 1.37, Python 3.13, JRE 21 for Kafka, Compose 2.26
IMAGES=(busybox:1.37 postgres:17 redis:8 apache/kafka:4.1.1 python:3.13-slim)   # the smallest first: it is the probe

WORK=                       # temporary directory of `images`; removed when the script ends
RELEASE_NETWORK_FILES=(forward-policy ip-forward own-chains)   # what `up` found, so that `down` can put it back

# macOS has no `timeout`; there an engine either answers or is missing, so doing without is right.
command -v timeout >/dev/null || timeout() { shift; "$@"; }

usage() {
    cat >&2 <<'USAGE'
usage: tools/engine.sh COMMAND
  up             make a Docker Engine reachable, starting a private one where none answers
  images         make the images of the tests: pulled, or stand-ins built from Debian's packages
  compose        have Docker Compose 2: the machine's own, or the program out of Debian's package
  env            all three, then print what `eval` needs to use them
  status         say which engine is used and which images it has
  down [--all]   end the private engine; with --all, remove its images and data too
environment: ITEST_ENGINE_DIR  where the private engine lives (default /var/tmp/itest-engine)
USAGE
}

say() { printf 'engine: %s\n' "$*" >&2; }
die() { printf 'engine: error: %s\n' "$*" >&2; exit 1; }

# --- Which engine ----------------------------------------------------------------------------------------------------

# Whether the engine that the environment (DOCKER_HOST, contexts) points to answers. Not `docker info`: that succeeds
# without a server in some versions.
answers() { command -v docker >/dev/null && timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Point this script at an engine that answers: the user's own first, then our private one. PRIVATE tells which it is.
PRIVATE=no
find_engine() {
    if answers; then
        [[ ${DOCKER_HOST:-} != "unix://$SOCKET" ]] || PRIVATE=yes
        return 0
    fi
    [[ -S $SOCKET ]] || return 1
    DOCKER_HOST="unix://$SOCKET" answers || return 1
    use_private
}

use_private() {
    export DOCKER_HOST="unix://$SOCKET"
    unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
    PRIVATE=yes
}

# The process id of our dockerd, or nothing. The pid alone proves nothing after a reboot, so the command line must name
# our socket.
our_pid() {
    local pid
    [[ -r $PIDFILE ]] && pid=$(<"$PIDFILE") && [[ $pid =~ ^[0-9]+$ ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "--host=unix://$SOCKET" || return 1
    printf '%s\n' "$pid"
}

# --- Starting one ----------------------------------------------------------------------------------------------------

is_debian() { grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release 2>/dev/null && command -v apt-get >/dev/null; }

# Install the Debian packages among the arguments that are missing. Their services are not started (policy-rc.d of the
# machine decides that, not we); on a machine with systemd Debian's own dockerd may start, and is then simply used.
install_packages() {
    local package missing=() log
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    [[ $EUID -eq 0 ]] || die "install ${missing[*]} (apt-get install ${missing[*]}), or run this as root."
    say "installing ${missing[*]}"
    log=$(mktemp)
    if ! { timeout 300 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 900 \
           apt-get install -y --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install ${missing[*]}; its last lines are above."
    fi
    rm -f "$log"
}

install_docker() {
    install_packages docker.io iptables iproute2
    command -v docker >/dev/null || install_packages docker-cli   # a package of its own since Debian 13
}

cmd_up() {
    if find_engine; then
        return 0
    fi
    [[ -z ${DOCKER_HOST:-} || $DOCKER_HOST == "unix://$SOCKET" ]] ||
        say "DOCKER_HOST=$DOCKER_HOST does not answer, so a private engine is used instead"
    if ! is_debian || [[ $EUID -ne 0 ]]; then
        die "no Docker Engine answers: start one (Docker Desktop, colima, podman, dockerd) or set DOCKER_HOST;" \
            "only as root on Debian or Ubuntu can this script start one itself."
    fi
    # containerd's socket lies 30 characters below, and a socket's path must not be longer than 107.
    ((${#STATE} <= 70)) || die "ITEST_ENGINE_DIR is too long for a socket's path: $STATE"
    mkdir -p "$STATE"
    chmod 711 "$STATE"   # whoever gets at the socket is root, so nobody needs to list this directory
    # One `up` at a time: the second waits here, then finds what the first has started.
    exec 9>"$STATE/lock"
    flock -w "$START_TIMEOUT" 9 || die "another tools/engine.sh holds $STATE/lock."
    if ! find_engine; then
        if ! command -v dockerd || ! command -v docker; then
            install_docker
        fi >/dev/null
        find_engine || start_dockerd
    fi
    exec 9>&-
}

start_dockerd() {
    local started=$SECONDS pid address driver=overlay2
    if our_pid >/dev/null; then
        stop_dockerd   # alive, but does not answer
    fi
    release_runtime
    mkdir -p "$STATE/bin" "$STATE/tmp"
    # overlay2 cannot lie on another overlay (this machine may be a container itself); vfs copies, slowly, everywhere.
    if [[ $(stat -f -c %T "$STATE") == overlayfs ]]; then
        driver=vfs
    fi
    choose_iptables
    remember_network
    address=$(free_subnet) || die "every private subnet that Docker could use is routed already."
    printf '%s\n' "$BRIDGE" >"$STATE/bridges"
    ip link add "$BRIDGE" type bridge
    ip address add "$address" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    echo '{}' >"$STATE/daemon.json"   # without this one, the machine's own /etc/docker/daemon.json would be read
    # A session of its own, so that Ctrl-C in this terminal does not reach the daemon; stdin and our lock are not kept.
    PATH="$STATE/bin:$PATH" DOCKER_TMPDIR="$STATE/tmp" setsid dockerd \
        --host="unix://$SOCKET" --pidfile="$PIDFILE" --data-root="$STATE/data" --exec-root="$STATE/run" \
        --config-file="$STATE/daemon.json" --storage-driver="$driver" --bridge="$BRIDGE" \
        --containerd-namespace=itest-engine --containerd-plugins-namespace=itest-engine-plugins \
        --log-level=warn </dev/null >"$LOG" 2>&1 9>&- &
    pid=$!
    disown "$pid"   # it is no job of this script, which waits for its jobs or ends them
    until DOCKER_HOST="unix://$SOCKET" answers; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS - started > START_TIMEOUT)); then
            printf '  dockerd: %s\n' "The last lines of $LOG:" >&2
            tail -n 15 "$LOG" >&2
            kill "$pid" 2>/dev/null || true
            release_runtime
            die "dockerd did not start within $((SECONDS - started)) s; its last log lines are above."
        fi
        sleep 0.1
    done
    use_private
    say "private engine $(docker version --format '{{.Server.Version}}') answers at $DOCKER_HOST" \
        "after $((SECONDS - started)) s"
}

# Debian's iptables speaks nf_tables; kernels without the translation (CONFIG_NFT_COMPAT) need the legacy one. Which
# works is tried with the match that dockerd needs; the choice is made for dockerd alone, by a directory in its PATH.
choose_iptables() {
    local flavour tool
    rm -f "$STATE"/bin/*
    iptables_works iptables && return 0
    for flavour in nft legacy; do
        iptables_works "iptables-$flavour" || continue
        for tool in iptables ip6tables; do
            ln -sf "$(command -v "$tool-$flavour")" "$STATE/bin/$tool"
        done
        return 0
    done
    die "iptables does not work in this kernel or container (it needs CAP_NET_ADMIN and the nat table):" \
        "$(iptables -t nat -S 2>&1 | tail -n 1)"
}

iptables_works() {
    local result=1 chain="ITEST-PROBE-$$"
    command -v "$1" >/dev/null && "$1" -w 5 -t nat -N "$chain" 2>/dev/null || return 1
    "$1" -w 5 -t nat -A "$chain" -m addrtype --dst-type LOCAL -j RETURN 2>/dev/null && result=0
    "$1" -w 5 -t nat -F "$chain" && "$1" -w 5 -t nat -X "$chain"
    return "$result"
}

tables() { PATH="$STATE/bin:$PATH" iptables -w 5 "$@"; }

# The first private /16 that no route of this machine touches.
free_subnet() {
    local octet routes
    routes=$(ip -4 route show table all)
    for octet in {29..31} {20..28}; do
        if ! grep -qE "(^| )172\.$octet\." <<<"$routes"; then
            printf '172.%d.0.1/16\n' "$octet"
            return 0
        fi
    done
    return 1
}

# --- Ending it -------------------------------------------------------------------------------------------------------

# dockerd turns forwarding on, sets the policy of FORWARD to DROP and adds chains. `down` undoes what was not so before.
remember_network() {
    cat /proc/sys/net/ipv4/ip_forward >"$STATE/ip-forward"
    tables -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p' >"$STATE/forward-policy"
    tables -t nat -S DOCKER >/dev/null 2>&1 || : >"$STATE/own-chains"
}

stop_dockerd() {
    local pid started=$SECONDS
    pid=$(our_pid) || return 0
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS - started > 30)); then
            kill -KILL "$pid" 2>/dev/null || true   # containers that do not stop; release_runtime sees to their mounts
            break
        fi
        sleep 0.1
    done
}

# End the containers that a dockerd of ours left running because it was killed: processes in the control group of one of
# its containers, and the containerd-shim of each. Ids have 64 digits, so nothing else can be meant.
end_leftovers() {
    local id file pid
    for id in "$STATE"/data/containers/*; do
        id=${id##*/}
        [[ ${#id} -eq 64 ]] || continue
        while read -r file; do
            pid=${file//[!0-9]/}
            if [[ $file == */cgroup || $(cat "/proc/$pid/comm" 2>/dev/null) == containerd-shim* ]]; then
                kill -KILL "$pid" 2>/dev/null || true
            fi
        done < <(grep -lasF "$id" /proc/[0-9]*/cgroup /proc/[0-9]*/cmdline)
    done
}

# Remove what a dockerd of ours that no longer runs has left in the kernel and in the state directory.
release_runtime() {
    local mount policy link
    end_leftovers
    awk -v state="$STATE/" 'index($2, state) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -l "$mount" 2>/dev/null || true
    done
    if [[ -e $STATE/own-chains ]]; then
        remove_chains
        policy=$(cat "$STATE/forward-policy" 2>/dev/null || true)
        [[ -z $policy ]] || tables -P FORWARD "$policy" 2>/dev/null || true
        [[ ! -s $STATE/ip-forward ]] || cat "$STATE/ip-forward" >/proc/sys/net/ipv4/ip_forward
    fi
    # Also those of networks that users of the engine made: dockerd makes them anew from its data root.
    if [[ -r $STATE/bridges ]]; then
        while read -r link; do
            ip link delete "$link" 2>/dev/null || true
        done <"$STATE/bridges"
    fi
    rm -rf --one-file-system "$STATE/run" "$STATE/tmp"
    rm -f "$SOCKET" "$PIDFILE" "$STATE/bridges" "${RELEASE_NETWORK_FILES[@]/#/$STATE/}"
}

# Delete Docker's chains and the rules that name them or our bridges. Only called when no such chain existed before us.
remove_chains() {
    local table rule chain words ours
    ours=$(paste -sd '|' "$STATE/bridges")
    for table in nat filter; do
        while read -r rule; do
            read -ra words <<<"${rule/#-A/-D}"
            tables -t "$table" "${words[@]}" 2>/dev/null || true
        done < <(tables -t "$table" -S 2>/dev/null | grep -E -- "^-A .*(-j DOCKER|-[io] ($ours) )")
        for chain in $(tables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER.*\)$/\1/p'); do
            tables -t "$table" -F "$chain" 2>/dev/null || true
        done
        for chain in $(tables -t "$table" -S 2>/dev/null | sed -n 's/^-N \(DOCKER.*\)$/\1/p'); do
            tables -t "$table" -X "$chain" 2>/dev/null || true
        done
    done
}

cmd_down() {
    local pid
    if [[ ! -d $STATE ]]; then
        say "there is no private engine in $STATE"
        return 0
    fi
    [[ $EUID -eq 0 ]] || die "the private engine was started by root, so only root can end it."
    exec 9>"$STATE/lock"
    flock -w "$START_TIMEOUT" 9 || die "another tools/engine.sh holds $STATE/lock."
    if pid=$(our_pid); then
        # While it still answers: which bridges belong to networks of this engine, and end its containers gently.
        DOCKER_HOST="unix://$SOCKET" timeout 10 docker network ls --filter driver=bridge --format '{{.ID}} {{.Name}}' \
            2>/dev/null | awk '$2 != "bridge" { print "br-" substr($1, 1, 12) }' >>"$STATE/bridges" || true
        stop_dockerd
        say "ended the private engine (process $pid)"
    fi
    release_runtime
    if [[ ${1:-} == --all ]]; then
        rm -rf --one-file-system "$STATE"
        say "removed $STATE"
    fi
}

# --- Images: pulled --------------------------------------------------------------------------------------------------

REGISTRY=unknown   # unknown, yes or no: whether a registry answered

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# A recipe is everything that shapes a stand-in; its hash is a label, so that a changed recipe is built anew.
recipe() {
    local directory=$HERE/images/${1%%:*}
    directory=$HERE/images/${directory##*/}
    { printf '%s %s %s\n' "$1" "$SUITE" "$(declare -f "$(builder "$1")" make_root import_root)"
      [[ ! -d $directory ]] || find "$directory" -type f | sort | xargs -d '\n' cat; } | sha256sum | cut -c 1-16
}

# Whether an image is there and is either a real one or a stand-in of the present recipe.
is_current() {
    local labels
    labels=$(docker image inspect "$1" --format \
        '{{index .Config.Labels "itest.stand-in"}} {{index .Config.Labels "itest.recipe"}}' 2>/dev/null) || return 1
    [[ $labels != true* || $labels == "true $(recipe "$1")" ]]
}

pull() {
    local image=$1 limit=$PULL_TIMEOUT started=$SECONDS reason
    [[ $REGISTRY != no ]] || return 1
    [[ $REGISTRY == yes ]] || limit=$PROBE_TIMEOUT
    if reason=$(timeout "$limit" docker pull --quiet "$image" 2>&1 >/dev/null); then
        REGISTRY=yes
        say "pulled $image in $((SECONDS - started)) s"
        return 0
    fi
    say "could not pull $image: $(tail -n 1 <<<"${reason:-no answer within $limit s}")"
    # One that answered before may just lack this image; one that never answered will not be asked again.
    [[ $REGISTRY == yes ]] || REGISTRY=no
    return 1
}

# --- Images: stand-ins -----------------------------------------------------------------------------------------------

builder() { local name=${1%%:*}; printf 'build_%s\n' "${name##*/}"; }

cmd_images() {
    local image missing=()
    find_engine || die "no Docker Engine answers; run \`tools/engine.sh up\` first."
    for image in "${IMAGES[@]}"; do
        is_current "$image" || missing+=("$image")
    done
    ((${#missing[@]})) || return 0
    local to_build=()
    for image in "${missing[@]}"; do
        # An outdated stand-in tells that there was no registry, so none is looked for again.
        if have_image "$image" || ! pull "$image"; then
            to_build+=("$image")
        fi
    done
    ((${#to_build[@]} == 0)) || build_all "${to_build[@]}"
}

# Build stand-ins, as many at a time as there are cores (but at least two, because much of the work is waiting).
build_all() {
    local image log pid failed=0 started=$SECONDS cores
    local -A building=()
    is_debian || die "no registry can be reached, and only on Debian or Ubuntu can stand-ins be built:" \
        "load the images ${*} by \`docker load\`."
    install_packages mmdebstrap debian-archive-keyring
    [[ " $* " != *kafka* ]] || command -v mvn >/dev/null || install_packages maven
    WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/itest-images.XXXXXX")
    chmod 755 "$WORK"   # apt's unprivileged user reads in it
    trap 'clean_up; exit 130' INT TERM HUP
    trap clean_up EXIT
    cores=$(nproc)
    say "building stand-ins for $* from Debian $SUITE"
    for image; do
        if ((${#building[@]} >= (cores > 2 ? cores : 2))); then
            wait_for_one || failed=1
        fi
        log=$WORK/${image//[\/:]/-}.log
        set -m   # a process group for each, so that clean_up can end all of it
        ( trap - INT TERM HUP EXIT; set -x; "$(builder "$image")" "$image" ) </dev/null >"$log" 2>&1 9>&- &
        set +m
        building[$!]="$image $SECONDS"
    done
    while ((${#building[@]})); do
        wait_for_one || failed=1
    done
    clean_up
    trap - INT TERM HUP EXIT
    ((failed == 0)) || die "a stand-in could not be built; the last lines of its log are above."
    say "built them in $((SECONDS - started)) s"
}

# Wait for any entry of `building` (of the caller) and report it.
wait_for_one() {
    local pid status=0 image since
    wait -n -p pid "${!building[@]}" || status=$?
    read -r image since <<<"${building[$pid]}"
    unset "building[$pid]"
    if ((status == 0)); then
        say "built $image in $((SECONDS - since)) s ($(docker image inspect "$image" --format '{{.Size}}' |
            awk '{ printf "%.0f MB", $1 / 1e6 }'))"
        return 0
    fi
    printf '  %s\n' "The last lines of the build of $image:" >&2
    tail -n 25 "$WORK/${image//[\/:]/-}.log" >&2
    return 1
}

clean_up() {
    local pid
    for pid in $(jobs -p); do
        kill -TERM -- "-$pid" 2>/dev/null || true   # told so, mmdebstrap unmounts and removes what it made
    done
    wait || true
    [[ -z $WORK ]] || rm -rf --one-file-system "$WORK"
    WORK=
}

# The mirror that this machine's apt uses for Debian itself (not for security updates), or nothing on Ubuntu, where
# mmdebstrap's own default is right.
mirror() {
    # shellcheck disable=SC2016  # the dollar signs are apt's
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | sed -n 1p
}

# make_root IMAGE [MMDEBSTRAP ARGUMENT...]: make a root file system for IMAGE. Documentation and translations stay out,
# as in the slim images that the official ones start from; one directory of them must exist for Debian's alternatives.
# shellcheck disable=SC2016  # $1 in a hook is the root directory, and the hook's own
make_root() {
    local image=$1 proxy arguments=() mirror
    shift
    mirror=$(mirror)
    proxy=$(apt-config shell p Acquire::http::Proxy | sed -n "s/^p='\(.*\)'$/\1/p")
    [[ -z $proxy ]] || arguments+=(--aptopt="Acquire::http::Proxy \"$proxy\"")
    # --foreground keeps it in our process group, where clean_up reaches it
    TMPDIR=$WORK timeout --foreground -k 30 "$BUILD_TIMEOUT" mmdebstrap --variant=minbase "${arguments[@]}" \
        --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --essential-hook='mkdir -p "$1/usr/share/man/man1"' \
        "$@" "$SUITE" "$(root_of "$image")" ${mirror:+"$mirror"}
}

# import_root IMAGE [DOCKERFILE LINE...]: print the id of an image made of IMAGE's root. It has no name yet, so that
# what is half done, when the build ends early, is never taken for the finished image.
import_root() {
    local image=$1 line changes=()
    shift
    for line in "$@" 'LABEL itest.stand-in=true' "LABEL itest.recipe=$(recipe "$image")"; do
        changes+=(--change "$line")
    done
    timeout --foreground "$BUILD_TIMEOUT" docker import "${changes[@]}" "$(root_of "$image")"
    rm -f "$(root_of "$image")"
}

root_of() { printf '%s/%s.tar\n' "$WORK" "${1//[\/:]/-}"; }

# name_image ID IMAGE: give a finished image its name, and drop the outdated one that had it (unless it is in use).
name_image() {
    local outdated
    outdated=$(docker image inspect "$2" --format '{{.Id}}' 2>/dev/null || true)
    docker tag "$1" "$2"
    [[ -z $outdated || $outdated == "$1" ]] || docker image rm "$outdated" || true
}

# A hook that adds a user with the number that the official image gives it (Debian would take the next free one), before
# the packages that look for it are installed.
# shellcheck disable=SC2016
hook_add_user() {   # NAME NUMBER HOME
    printf 'echo "%s:x:%d:%d::%s:/bin/bash" >>"$1/etc/passwd"; echo "%s:x:%d:" >>"$1/etc/group"' \
        "$1" "$2" "$2" "$3" "$1" "$2"
}

# A hook that writes the version of an installed package to a file outside.
hook_version() {   # PACKAGE FILE
    # shellcheck disable=SC2016  # $1 is the hook's, ${Version} dpkg's
    printf 'chroot "$1" dpkg-query -W -f '\''${Version}'\'' %q >%q' "$1" "$2"
}

STANDARD_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

build_busybox() {
    # One static file out of Debian's package and links to it are the whole image; nothing has to be installed.
    local root=$WORK/busybox applet
    mkdir -p "$root"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,usr/sbin,var}
    make_root "$1" --variant=extract --include=busybox-static
    tar -xOf "$(root_of "$1")" --wildcards './usr/bin/busybox' >"$root/bin/busybox"
    chmod 755 "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    chmod 1777 "$root/tmp"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/home:/bin/false >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
    tar -C "$root" --owner=0 --group=0 --numeric-owner -cf "$(root_of "$1")" .
    name_image "$(import_root "$1" "ENV PATH=$STANDARD_PATH" 'CMD ["sh"]')" "$1"
}

# shellcheck disable=SC2016  # hooks are shell code of mmdebstrap's, where $1 is the root directory
build_postgres() {
    local id container
    make_root "$1" --include=postgresql-17,locales,xz-utils,zstd \
        --essential-hook="$(hook_add_user postgres 999 /var/lib/postgresql)" \
        --essential-hook='mkdir "$1/etc/postgresql-common"
            echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
        --customize-hook='set -e
            chroot "$1" localedef -i en_US -f UTF-8 en_US.UTF-8
            rm -rf "$1/usr/share/i18n"
            sed -i -E "s/^#?listen_addresses *=.*/listen_addresses = '\''*'\''/" \
                "$1/usr/share/postgresql/17/postgresql.conf.sample"
            mkdir -p "$1/docker-entrypoint-initdb.d"
            chroot "$1" install -d -o postgres -g postgres -m 1777 /var/lib/postgresql/data
            chroot "$1" install -d -o postgres -g postgres -m 3777 /var/run/postgresql' \
        --customize-hook="copy-in $HERE/images/postgres/docker-entrypoint.sh /usr/local/bin" \
        --customize-hook="$(hook_version postgresql-17 "$WORK/postgres.version")"
    # The server's own directory is first, because Debian's /usr/bin/psql is a Perl script that looks for clusters.
    id=$(import_root "$1" "ENV PATH=/usr/lib/postgresql/17/bin:$STANDARD_PATH" \
        "ENV LANG=en_US.utf8 PG_MAJOR=17 PG_VERSION=$(<"$WORK/postgres.version") PGDATA=/var/lib/postgresql/data" \
        'VOLUME /var/lib/postgresql/data' 'EXPOSE 5432' 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["postgres"]')
    # The stop signal is all that an import cannot set; a container has one, and hands it on to its image.
    container=$(docker create --stop-signal SIGINT "$id")
    id=$(docker commit "$container")
    docker rm -v "$container"
    name_image "$id" "$1"
}

# shellcheck disable=SC2016
build_redis() {
    local id
    make_root "$1" --include=redis-server \
        --essential-hook="$(hook_add_user redis 999 /data)" \
        --customize-hook='set -e
            ln -sf redis-server "$1/usr/bin/redis-sentinel"
            chroot "$1" install -d -o redis -g redis /data' \
        --customize-hook="copy-in $HERE/images/redis/docker-entrypoint.sh /usr/local/bin" \
        --customize-hook="$(hook_version redis-server "$WORK/redis.version")"
    id=$(import_root "$1" "ENV PATH=$STANDARD_PATH REDIS_VERSION=$(sed 's/^.*://; s/[-+].*//' "$WORK/redis.version")" \
        'VOLUME /data' 'WORKDIR /data' 'EXPOSE 6379' 'ENTRYPOINT ["docker-entrypoint.sh"]' 'CMD ["redis-server"]')
    name_image "$id" "$1"
}

# shellcheck disable=SC2016
build_python() {
    # Without pip, which apps in the tests have no use for: they bring what they import.
    make_root "$1" --include=python3 \
        --customize-hook='mkdir -p "$1/usr/local/bin"; ln -s /usr/bin/python3 "$1/usr/local/bin/python"
            ln -s /usr/bin/python3 "$1/usr/local/bin/python3"'
    name_image "$(import_root "$1" "ENV PATH=$STANDARD_PATH LANG=C.UTF-8" 'CMD ["python3"]')" "$1"
}

# shellcheck disable=SC2016
build_kafka() {
    local files=$HERE/images/kafka id container
    mkdir -p "$WORK/kafka/libs"
    cp "$files/pom.xml" "$WORK/kafka"
    timeout --foreground "$BUILD_TIMEOUT" mvn -q -B -f "$WORK/kafka/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$WORK/kafka/libs"
    make_root "$1" --include=openjdk-21-jre-headless \
        --essential-hook="$(hook_add_user appuser 1000 /home/appuser)" \
        --customize-hook='mkdir -p "$1/opt/kafka/bin" "$1/opt/kafka/config" "$1/opt/kafka/logs" "$1/etc/kafka/docker" \
            "$1/etc/kafka/secrets" "$1/var/lib/kafka/data" "$1/mnt/shared/config" "$1/home/appuser"' \
        --customize-hook="copy-in $WORK/kafka/libs /opt/kafka" \
        --customize-hook="copy-in $files/kafka.sh /opt/kafka/bin" \
        --customize-hook="copy-in $files/log4j2.yaml $files/tools-log4j2.yaml /etc/kafka/docker" \
        --customize-hook="copy-in $files/server.properties $files/run /etc/kafka/docker" \
        --customize-hook="copy-in $files/cacert_entrypoint.sh /" \
        --customize-hook='set -e
            mv "$1/cacert_entrypoint.sh" "$1/__cacert_entrypoint.sh"
            cp "$1/etc/kafka/docker/log4j2.yaml" "$1/etc/kafka/docker/tools-log4j2.yaml" \
                "$1/etc/kafka/docker/server.properties" "$1/opt/kafka/config"
            for name in $("$1/opt/kafka/bin/kafka.sh" --names); do ln -s kafka.sh "$1/opt/kafka/bin/$name"; done
            chroot "$1" chown -R appuser:appuser /opt/kafka /etc/kafka /var/lib/kafka /mnt/shared /home/appuser'
    id=$(import_root "$1" "ENV PATH=$STANDARD_PATH" 'USER appuser' 'EXPOSE 9092' \
        'VOLUME ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"]' \
        'ENTRYPOINT ["/__cacert_entrypoint.sh"]' 'CMD ["/etc/kafka/docker/run"]')
    # Class-data archives, which the official image has too, make the broker start in half the time. They hold for the
    # very JVM and files they were made with, so they are made inside the image and committed on top of it.
    # The host name is one that resolves without a network: the broker looks its own name up.
    container=$(docker create --network none --hostname localhost "$id" bash -c "$(<"$files/archive.sh")")
    if timeout --foreground 120 docker start --attach "$container"; then
        id=$(docker commit --change 'ENTRYPOINT ["/__cacert_entrypoint.sh"]' \
            --change 'CMD ["/etc/kafka/docker/run"]' "$container")
        docker rm -v "$container"
        name_image "$id" "$1"
    else
        docker rm -f -v "$container"
        return 1
    fi
}

# --- Docker Compose --------------------------------------------------------------------------------------------------

COMPOSE=$STATE/docker-compose

is_compose() { [[ $("$@" version --short 2>/dev/null) =~ ^v?[2-9] ]]; }
has_compose() { is_compose docker compose || is_compose docker-compose; }

# Have Docker Compose 2. Where it is installed, or the user says which, nothing is done; else the program is taken out of
# Debian's package, which is not installed. Without it the tests of Compose projects skip, so failing is no error.
cmd_compose() {
    local work
    if [[ -n ${ITEST_COMPOSE:-} ]] || has_compose || is_compose "$COMPOSE"; then
        return 0
    fi
    if ! is_debian || [[ $EUID -ne 0 ]]; then
        say "there is no Docker Compose 2 here, and only as root on Debian or Ubuntu can this script get it"
        return 0
    fi
    mkdir -p "$STATE"
    exec 8>"$STATE/compose.lock"
    flock -w "$BUILD_TIMEOUT" 8 || die "another tools/engine.sh holds $STATE/compose.lock."
    if ! is_compose "$COMPOSE"; then
        install_packages mmdebstrap debian-archive-keyring
        work=$(mktemp -d "${TMPDIR:-/var/tmp}/itest-compose.XXXXXX")
        chmod 755 "$work"   # apt's unprivileged user reads in it
        if WORK=$work make_root compose --variant=extract --include=docker-compose >"$work/log" 2>&1 8>&- &&
            tar -xOf "$work/compose.tar" ./usr/libexec/docker/cli-plugins/docker-compose >"$COMPOSE.new" &&
            chmod 755 "$COMPOSE.new" && is_compose "$COMPOSE.new"; then
            mv "$COMPOSE.new" "$COMPOSE"   # at once, for those who look for it meanwhile
            say "took Docker Compose $("$COMPOSE" version --short) out of Debian's package"
        else
            tail -n 5 "$work/log" >&2
            say "could not get Docker Compose 2 from Debian's package; the tests of Compose projects will skip"
        fi
        rm -rf --one-file-system "$work" "$COMPOSE.new"
    fi
    exec 8>&-
}

# --- Commands --------------------------------------------------------------------------------------------------------

cmd_env() {
    local host_before=${DOCKER_HOST:-} name others=()
    for name in DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH; do
        [[ -z ${!name:-} ]] || others+=("$name")   # each would be applied to our plain local socket
    done
    cmd_up
    cmd_images
    cmd_compose
    if [[ $PRIVATE == yes && $host_before != "$DOCKER_HOST" ]]; then
        printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
        ((${#others[@]} == 0)) || printf 'unset %s\n' "${others[*]}"
    fi
    if [[ -z ${ITEST_COMPOSE:-} ]] && ! has_compose && is_compose "$COMPOSE"; then
        printf 'export ITEST_COMPOSE=%q\n' "$COMPOSE"
    fi
}

cmd_status() {
    local image
    if ! find_engine; then
        say "no Docker Engine answers"
        return 1
    fi
    say "Docker Engine $(docker version --format '{{.Server.Version}}') at ${DOCKER_HOST:-the default address}" \
        "(private: $PRIVATE)"
    for image in "${IMAGES[@]}"; do
        say "$(docker image inspect "$image" --format \
            '{{index .RepoTags 0}} {{.Size}} bytes, stand-in: {{index .Config.Labels "itest.stand-in"}}' 2>/dev/null \
            || printf '%s is missing' "$image")"
    done
}

main() {
    local command=${1:-}
    shift || true
    case $command/$# in
        up/0 | images/0 | compose/0 | env/0 | status/0 | down/0) ;;
        down/1) [[ $1 == --all ]] || { usage; exit 2; } ;;
        *) usage; exit 2 ;;
    esac
    "cmd_$command" "$@"
}

main "$@"
