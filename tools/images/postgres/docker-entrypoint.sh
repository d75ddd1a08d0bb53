#!/usr/bin/env bash
# Entrypoint of the stand-in for the official postgres image; the environment it honours is the official one's:
# POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also as NAME_FILE), POSTGRES_INITDB_WALDIR,
# POSTGRES_HOST_AUTH_METHOD, PGDATA, and the scripts in /docker-entrypoint-initdb.d.

set -Eeuo pipefail

note() { printf '%s: %s\n' "${0##*/}" "$*"; }
fail() { printf 'Error: %s\n' "$*" >&2; exit 1; }

# setting NAME [DEFAULT]: export NAME from itself, from the file (a mounted secret) that NAME_FILE names, or DEFAULT.
setting() {
    local name=$1 file=${1}_FILE value=${2:-}
    if [[ -n ${!name:-} && -n ${!file:-} ]]; then
        fail "$name and $file are both set, but only one of them can be used."
    elif [[ -n ${!name:-} ]]; then
        value=${!name}
    elif [[ -n ${!file:-} ]]; then
        value=$(<"${!file}")
    fi
    export "$name=$value"
    unset "$file"
}

# Invocations that only print something must not create a database cluster first.
only_prints() {
    local word
    for word; do
        case $word in
            -'?' | --help | -V | --version | --describe-config | -C) return 0 ;;
        esac
    done
    return 1
}

prepare_directories() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA" || true            # a foreign user in a mounted directory: the server says it better
    chmod 3777 /var/run/postgresql || true
    if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
        mkdir -p "$POSTGRES_INITDB_WALDIR"
        chmod 0700 "$POSTGRES_INITDB_WALDIR"
    fi
    if [[ $EUID -eq 0 ]]; then
        find "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \
            ! -user postgres -exec chown postgres {} +
    fi
}

require_password() {
    if [[ -z $POSTGRES_PASSWORD && ${POSTGRES_HOST_AUTH_METHOD:-} != trust ]]; then
        cat >&2 <<'TEXT'
Error: Database is uninitialized and superuser password is not specified.
       Set POSTGRES_PASSWORD to a non-empty value, for example: docker run -e POSTGRES_PASSWORD=secret ...
       or allow every connection without a password by POSTGRES_HOST_AUTH_METHOD=trust (not recommended).
TEXT
        exit 1
    fi
    if [[ ${POSTGRES_HOST_AUTH_METHOD:-} == trust ]]; then
        note "warning: POSTGRES_HOST_AUTH_METHOD is trust, so anyone who reaches the port is let in" >&2
    fi
}

create_cluster() {
    # Word splitting is the point of POSTGRES_INITDB_ARGS; xargs understands quotes in it without evaluating anything.
    local arguments=()
    if [[ -n $POSTGRES_INITDB_ARGS ]]; then
        mapfile -t arguments < <(xargs -n 1 printf '%s\n' <<<"$POSTGRES_INITDB_ARGS")
    fi
    if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
        arguments+=(--waldir "$POSTGRES_INITDB_WALDIR")
    fi
    if [[ -n $POSTGRES_PASSWORD ]]; then   # initdb refuses an empty file
        initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
    else
        initdb --username="$POSTGRES_USER" "${arguments[@]}"
    fi
}

# Connections from outside: initdb's own lines cover only the socket and loopback.
allow_connections() {   # [SERVER OPTION...]
    local method=${POSTGRES_HOST_AUTH_METHOD:-}
    [[ -n $method ]] || method=$(postgres -C password_encryption "$@")
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

client() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

# The temporary server takes the user's options too (a preloaded library may be needed by a script), but nobody outside
# can reach it: a client that connects has found the final server.
start_temporary() {   # [SERVER OPTION...]
    NOTIFY_SOCKET='' pg_ctl -D "$PGDATA" -w start \
        -o "$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")"
}

stop_temporary() { pg_ctl -D "$PGDATA" -m fast -w stop; }

create_database() {
    [[ $POSTGRES_DB != postgres ]] || return 0
    client --dbname postgres -v name="$POSTGRES_DB" <<<'CREATE DATABASE :"name";'
}

run_scripts() {
    local script
    for script in /docker-entrypoint-initdb.d/*; do
        case $script in
            *.sh)
                if [[ -x $script ]]; then
                    note "running $script"
                    "$script"
                else
                    note "sourcing $script"
                    # shellcheck source=/dev/null
                    . "$script"
                fi ;;
            *.sql) note "running $script"; client --dbname "$POSTGRES_DB" -f "$script" ;;
            *.sql.gz) note "running $script"; gunzip -c "$script" | client --dbname "$POSTGRES_DB" ;;
            *.sql.xz) note "running $script"; xzcat "$script" | client --dbname "$POSTGRES_DB" ;;
            *.sql.zst) note "running $script"; zstd -dc "$script" | client --dbname "$POSTGRES_DB" ;;
            *) note "ignoring $script" ;;
        esac
        printf '\n'
    done
}

main() {
    if [[ ${1:-} == -* ]]; then
        set -- postgres "$@"
    fi
    if [[ ${1:-} == postgres ]] && ! only_prints "$@"; then
        prepare_directories
        if [[ $EUID -eq 0 ]]; then
            # PostgreSQL refuses to run as root. HOME goes along: psql would look for its files in root's.
            exec setpriv --reuid=postgres --regid=postgres --init-groups \
                env HOME=/var/lib/postgresql "${BASH_SOURCE[0]}" "$@"
        fi
        if [[ -s $PGDATA/PG_VERSION ]]; then
            printf '\nPostgreSQL Database directory appears to contain a database; Skipping initialization\n\n'
        else
            setting POSTGRES_PASSWORD
            setting POSTGRES_USER postgres
            setting POSTGRES_DB "$POSTGRES_USER"
            setting POSTGRES_INITDB_ARGS
            require_password
            ls /docker-entrypoint-initdb.d/ >/dev/null   # an unreadable directory is told before the work, not after
            create_cluster
            allow_connections "${@:2}"
            export PGPASSWORD=$POSTGRES_PASSWORD
            start_temporary "${@:2}"
            create_database
            run_scripts
            stop_temporary
            unset PGPASSWORD
            printf '\nPostgreSQL init process complete; ready for start up.\n\n'
        fi
    fi
    exec "$@"
}

shopt -s nullglob
main "$@"
