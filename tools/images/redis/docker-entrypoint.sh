#!/bin/sh
# Entrypoint of the stand-in for the official redis image.
set -eu

# `docker run redis --save ""` and `docker run redis /etc/redis.conf` mean the server.
case ${1:-} in
    -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ]; then
    shift
    case ${1:-} in
        -v | --version | -h | --help | --test-memory | --check-system) exec redis-server "$@" ;;
    esac

    # The official image is compiled with protected mode off: a container is reached through its network anyway.
    # Debian's is not, so the option is given here, behind the configuration file (the file must come first) and before
    # the user's own options (the last one wins). A file that sets the option itself is left alone.
    file=
    case ${1:-} in
        '' | --*) ;;
        *) file=$1; shift ;;
    esac
    if [ -z "$file" ] || ! grep -qiE '^[[:space:]]*protected-mode[[:space:]]' "$file" 2>/dev/null; then
        set -- --protected-mode no "$@"
    fi
    set -- redis-server ${file:+"$file"} "$@"

    if [ "$(umask)" = 0022 ]; then
        umask 0077   # dumps hold data, so they are for the server's user only
    fi
    if [ "$(id -u)" = 0 ]; then
        find . \! -user redis -exec chown redis {} +
        exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
    fi
fi
exec "$@"
