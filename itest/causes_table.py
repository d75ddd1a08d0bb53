# SPDX-License-Identifier: Apache-2.0
"""The table of known causes: what Docker, registries, servers and drivers say, what that means and what to do.

docs/troubleshooting.md is made of it, and each cause is tested with the very words that are said. causes.py searches it.
"""

from __future__ import annotations

from dataclasses import dataclass

REGISTRY = "registry"
"""Said by Docker or a registry while an image is pulled."""
DOCKER = "docker"
"""Said by Docker when it is to create, start or build something."""
LOG = "log"
"""Said by the server itself, or by what starts it."""
CLIENT = "client"
"""Said by a client of Docker that does not reach it."""
DRIVER = "driver"
"""Said by the driver of a service, to a test or to an app, which has it in its log."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A known cause. `name` says what is wrong in a few words, `cure` what to do, in words that end a sentence.

    `pattern` is a regular expression for what is said by those in `said_by`; case does not count. The cure may hold
    placeholders for its named groups and for facts of the caller. `example` is what people see, for those who search.
    `local` is the cure for a local process, where that is another one: the caller's fact `place` tells that it is one.
    What drivers say stands in the note on a failing test, which has room for 180 characters.
    """

    name: str
    cure: str
    pattern: str
    said_by: tuple[str, ...]
    example: str
    local: str = ""


PORT_TAKEN = "port taken"
NO_SPACE = "no space left"
OUT_OF_MEMORY = "out of memory"
NOT_RUNNING = "Docker is not running"
DESKTOP_NOT_RUNNING = "Docker Desktop is not running"
NO_PERMISSION = "no permission on the socket"
NO_SOCKET = "no socket"
LIMITS_IGNORED = "limits ignored"
NAMELESS = "a user id without a name"

TABLE = (
    # Reaching Docker.
    Cause(
        NO_PERMISSION,
        "add the user to the group docker (`sudo usermod -aG docker $USER`, then log in again) or use rootless Docker",
        r"permission denied while trying to connect to the docker",
        (CLIENT,),
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
    ),
    Cause(
        DESKTOP_NOT_RUNNING,
        "start it and wait until it says that it is running (`docker desktop start`, or open the app)",
        r"Cannot connect to the Docker daemon at unix://\S*/\.docker/(run|desktop)/|dockerDesktopLinuxEngine|pipe/docker_engine",
        (CLIENT,),
        "Cannot connect to the Docker daemon at unix:///Users/me/.docker/run/docker.sock. Is the docker daemon running?",
    ),
    Cause(
        NOT_RUNNING,
        "start it (Docker Desktop, `colima start`, `sudo systemctl start docker`) or set DOCKER_HOST",
        r"Cannot connect to the Docker daemon",
        (CLIENT,),
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    ),
    Cause(
        NO_SOCKET,
        "correct {source}: it must name the socket that Docker listens on, unix:///var/run/docker.sock",
        r"is no socket",
        (CLIENT,),
        "unix:///home/me/docker.sock (DOCKER_HOST) is no socket",
    ),
    Cause(
        "Docker's API is another version",
        "update the package docker (`pip install -U docker`) or Docker itself, whichever is the older",
        r"client version [\d.]+ is too (old|new)",
        (CLIENT, DOCKER, REGISTRY),
        "client version 1.43 is too old. Minimum supported API version is 1.44",
    ),
    # Pulling an image. A rate limit, for one, also says "denied": the first that matches counts.
    Cause(
        "rate limit",
        "the rate limit of {registry} is used up: log in (`docker login{login}`, or the variable DOCKER_AUTH_CONFIG), "
        "wait, or name a mirror by the setting mirror",
        r"toomanyrequests|rate limit|429 Too Many",
        (REGISTRY,),
        "toomanyrequests: You have reached your pull rate limit.",
    ),
    Cause(
        "no image for this processor",
        "the image does not exist for {platform}: choose another image or tag",
        r"no matching manifest|does not match the specified platform",
        (REGISTRY,),
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ),
    Cause(
        "registry not trusted",
        "Docker does not trust the registry: add its certificate, or list it in insecure-registries",
        r"x509|certificate|HTTP response to HTTPS client",
        (REGISTRY,),
        "x509: certificate signed by unknown authority",
    ),
    Cause(
        "registry out of reach",
        "the Docker host cannot reach the registry {registry}: check its network, proxy or mirror, or bring the image "
        "with `docker load`",
        r"no such host|connection refused|i/o timeout|network is unreachable|no route to host|Client\.Timeout"
        r"|TLS handshake timeout|deadline exceeded|server misbehaving|proxyconnect|connection reset|EOF",
        (REGISTRY,),
        "dial tcp: lookup registry-1.docker.io: no such host",
    ),
    Cause(
        "no such image",
        "the registry has no such image: check name and tag",
        r"manifest unknown|manifest for|not found",
        (REGISTRY,),
        "manifest for postgres:99 not found: manifest unknown",
    ),
    Cause(
        "no access to the image",
        "{access}",
        r"denied|does not exist|unauthorized|authentication required|no basic auth",
        (REGISTRY,),
        "pull access denied for acme/shop, repository does not exist or may require 'docker login'",
    ),
    Cause(
        "wrong name of an image",
        "write it as [registry/]name[:tag]",
        r"invalid reference|invalid tag|invalid repository",
        (REGISTRY, DOCKER),
        "invalid reference format",
    ),
    # What the machine lacks.
    Cause(
        "too little shared memory",
        'give a Container or App.container more than Docker\'s 64 MB: shm_size="256m" (a service of a Compose file: '
        "shm_size: 256m)",
        r"could not resize shared memory segment .* No space left on device",
        (LOG,),
        'could not resize shared memory segment "/PostgreSQL.1654218" to 16777216 bytes: No space left on device',
        "make room in /dev/shm",
    ),
    Cause(
        NO_SPACE,
        "make room on the Docker host, `docker system df` shows what takes it",
        r"no space left on device|no space left|disk quota exceeded",
        (REGISTRY, DOCKER),
        "no space left on device",
    ),
    Cause(
        NO_SPACE,
        "the server's disk or its tmpfs is full: make room (`docker system df`, `df -h`), or give its tmpfs more",
        r"no space left on device|disk quota exceeded",
        (LOG,),
        'FATAL:  could not write lock file "postmaster.pid": No space left on device',
        "make room in {place}, where it has its files, or if that is not /dev/shm, name a larger directory by TMPDIR",
    ),
    # Java calls this an OutOfMemoryError, too.
    Cause(
        "too many threads",
        'raise the limit: ulimits={"nproc": 4096}, or that of the shell: `ulimit -u`, which counts all processes and threads '
        "of the user, or `ulimit -v`, of which each thread takes some for its stack",
        r"unable to create (new )?native thread|pthread_create failed \(EAGAIN\)|can't start new thread"
        r"|fork\b[^\n]*Resource temporarily unavailable|Can't initialize Background Jobs",
        (LOG, DOCKER),
        "java.lang.OutOfMemoryError: unable to create native thread",
        "raise the limit of the shell: `ulimit -u`, which counts all processes and threads of the user, or `ulimit -v`, of which "
        "each thread takes some for its stack",
    ),
    Cause(
        OUT_OF_MEMORY,
        'give the container more (memory="1g"), or Docker itself (Docker Desktop: Settings, Resources), or the server less',
        r"OutOfMemoryError|insufficient memory for the Java Runtime|Cannot allocate memory|Can't allocate memory"
        r"|std::bad_alloc|JavaScript heap out of memory|Cannot reserve enough space for object heap",
        (LOG, DOCKER),
        "There is insufficient memory for the Java Runtime Environment to continue.",
        "end other programs, raise a limit of the shell (`ulimit -v`), or give the server less",
    ),
    Cause(
        "limit of mapped memory",
        "raise it on the Docker host: `sudo sysctl -w vm.max_map_count=262144` (Docker Desktop: in its virtual machine), or "
        'have the server do without: env={"discovery.type": "single-node"}',
        r"max virtual memory areas vm\.max_map_count \[\d+\] is too low",
        (LOG,),
        "max virtual memory areas vm.max_map_count [65530] is too low, increase to at least [262144]",
    ),
    Cause(
        "too many open files",
        'raise the limit: ulimits={"nofile": 65536}, or that of the shell (`ulimit -n`)',
        r"too many open files|'ulimit -n' of \d+ is not enough|insufficient file descriptors available",
        (LOG, DOCKER),
        "accept: too many open files",
        "raise the limit of the shell (`ulimit -n`)",
    ),
    Cause(
        LIMITS_IGNORED,
        "rootless Docker and Podman need cgroup v2 with the controllers delegated to the user (systemd's Delegate=yes); "
        "without, limits of memory and processors do nothing: take them out, or run with the limits of the machine",
        r"support memory limit capabilities or the cgroup is not mounted|Resource limits are not supported and ignored"
        r"|NanoCPUs can not be set|rootless needs no limits|cannot set memory limit: container could not join"
        r"|requested cgroup controller .* is not available|controller `\w+` is not available|cgroup mount destination: unknown",
        (DOCKER,),
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    ),
    Cause(
        "no cgroup to pause it by",
        "rootless Docker and Podman need cgroup v2, delegated to the user (systemd's Delegate=yes), to pause a container; "
        "without, `stop()` has it out of reach until `restart()`",
        r"cannot toggle freezer|freezer not supported|no such directory for freezer\.state"
        r"|cannot pause (the container )?without|can not pause containers on rootless",
        (DOCKER,),
        "OCI runtime pause failed: cannot toggle freezer: cgroups not configured for container",
    ),
    # What Docker cannot do.
    Cause(
        PORT_TAKEN,
        "another program took the port, or it is reserved on this machine",
        r"port is already allocated|address already in use|ports are not available|Only one usage of each socket address"
        r"|Failure EADDRINUSE",
        (DOCKER,),
        "Bind for 127.0.0.1:5432 failed: port is already allocated",
    ),
    Cause(
        PORT_TAKEN,
        "another program has it: one of the same container, or of this machine for a local process, which itest starts "
        "again with another port",
        r"Address already in use|could not bind|could not create any TCP/IP sockets|BindException",
        (LOG,),
        'could not bind IPv4 address "127.0.0.1": Address already in use',
    ),
    Cause(
        "no free network addresses",
        "remove networks that nobody uses (`docker network prune`, `itest sweep`), close a VPN, or widen "
        "default-address-pools in Docker's daemon.json",
        r"non-overlapping IPv4 address pool|all predefined address pools have been fully subnetted",
        (DOCKER,),
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
    ),
    Cause(
        "Docker's firewall rules are gone",
        "something has replaced them since Docker started: restart Docker (`sudo systemctl restart docker`)",
        r"iptables.*No chain/target/match by that name",
        (DOCKER,),
        "iptables failed: ... iptables: No chain/target/match by that name.",
    ),
    Cause(
        "path is not shared with Docker",
        "Docker does not see this directory: share it (Docker Desktop: Settings, Resources, File sharing), and with Docker on "
        "another machine use files= in place of a mount",
        r"Mounts denied|is not shared from the host",
        (DOCKER,),
        "Mounts denied: The path /data is not shared from the host and is not known to Docker.",
    ),
    Cause(
        "no such path to mount",
        "check it: a path starts at the directory of the test's module, and Docker must see it (Docker Desktop: Settings, "
        "Resources, File sharing); with Docker on another machine use files= in place of a mount",
        r"bind source path does not exist",
        (DOCKER,),
        'invalid mount config for type "bind": bind source path does not exist: /data',
    ),
    # What is wrong with image, command or settings.
    Cause(
        "wrong architecture",
        "the image is for another processor, or its entrypoint is a script without `#!` line: choose an image or "
        "platform= for this machine's processor (`docker image inspect` tells an image's)",
        r"exec format error",
        (DOCKER, LOG),
        "exec /usr/local/bin/docker-entrypoint.sh: exec format error",
    ),
    Cause(
        "missing library",
        "the program was made for another system than the one it runs on (glibc or Alpine's musl, an older release): take "
        "an image, or build the program, for the same one",
        r"error while loading shared libraries|Error loading shared library|version `GLIBC(XX)?_[\d.]+' not found"
        r"|Error relocating .*: symbol not found|Library not loaded:",
        (LOG, DOCKER),
        "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app/server)",
    ),
    Cause(
        "no image of PostgreSQL",
        "the image has no program `postgres`: name the official one (postgres:17) or one that is made from it",
        r"exec: \"postgres\": executable file not found in \$PATH|: exec: postgres: not found",
        (LOG, DOCKER),
        "docker-entrypoint.sh: 46: exec: postgres: not found",
    ),
    Cause(
        "no such program",
        "the command's or entrypoint's first word is no program in the image: check it, and that a text is a command with "
        "its arguments, not one word (a script also needs its interpreter, and lines that end as in Unix)",
        r"executable file not found in \$PATH|exec: \"[^\"]*\": stat [^:]*: no such file or directory"
        r"|exec [^ :]+: no such file or directory|: (\d+|line \d+): exec: [^:\n]+: not found",
        (DOCKER, LOG),
        'exec: "serve": executable file not found in $PATH',
    ),
    Cause(
        "no such user",
        "the image has no user or group of that name in its /etc/passwd or /etc/group: name one that it has, or write a "
        'number, user="1000"',
        r"unable to find (user|group) |no users found|no matching entries in (passwd|group) file",
        (DOCKER,),
        "unable to find user app: no matching entries in passwd file",
    ),
    Cause(
        NAMELESS,
        "the image's program wants a user that has a name: name one that its /etc/passwd has by user=, or have a line for that "
        "number in it",
        r"could not look up effective user ID \d+",
        (LOG,),
        "initdb: error: could not look up effective user ID 1000: user does not exist",
        "run the tests as a user that has one, or as root, or give this one a line in /etc/passwd: "
        "app:x:1000:1000::/tmp:/bin/sh",
    ),
    Cause(
        "a directory in the way",
        "name the file itself, '/www/index.html' and not '/www': neither takes a file the place of a directory of the "
        "container, nor a directory that of a file or link",
        r"cannot overwrite (non-)?directory|copier: put: .*: (file exists|not a directory)"
        r"|^(Error processing tar file\([^)]*\): )?(open|mkdir|lstat|unlinkat) [^:]+: not a directory",
        (DOCKER,),
        'cannot overwrite directory "/www" with non-directory "/"',
    ),
    Cause(
        "program may not be executed",
        "make the file executable where it comes from (`chmod +x`, then build the image anew)",
        r"exec: \"[^\"]*\": permission denied|exec [^ :]+: permission denied|: (\d+|line \d+): exec: [^:\n]+: permission denied",
        (DOCKER, LOG),
        'exec: "/entrypoint.sh": permission denied',
    ),
    # A script may say what would be another cause of the server's, so what runs scripts comes first.
    Cause(
        "failing init script",
        "correct {script}, line {line}: {message}",
        r"psql:/docker-entrypoint-initdb\.d/zz-itest-\d+-(?P<script>[^\n]+?):(?P<line>\d+): (ERROR|FATAL): +(?P<message>[^\n]+)",
        (LOG,),
        'psql:/docker-entrypoint-initdb.d/zz-itest-001-seed.sql:3: ERROR:  type "imt" does not exist',
    ),
    Cause(
        "failing init script",
        "correct {script}, in which the container ended: what it said last is in the log",
        r"(running|sourcing) /docker-entrypoint-initdb\.d/zz-itest-\d+-(?P<script>[^\n]+)"
        r"(?![\s\S]*((running|sourcing) /docker-entrypoint-initdb\.d/|init process complete))",
        (LOG,),
        "docker-entrypoint.sh: running /docker-entrypoint-initdb.d/zz-itest-001-seed.sh",
    ),
    Cause(
        "image needs a variable",
        'the image wants {variable}: give it in the declaration, env={"{variable}": "..."}',
        r"(superuser password is not specified|password option is not specified|error: missing '"
        r"|(define|provide|set|via)\b[^\n]{0,40}\benvironment variable)"
        r"[\s\S]{0,160}?(?-i:\b(?P<variable>[A-Z][A-Z0-9]*_[A-Z0-9_]+))",
        (LOG,),
        "Error: Database is uninitialized and superuser password is not specified.",
    ),
    Cause(
        "image needs a variable",
        'the image wants {variable}: give it in the declaration, env={"{variable}": "..."}',
        r"(?-i:\b(?P<variable>[A-Z][A-Z0-9]*_[A-Z0-9_]+)) (is required|is not set|must be set|is not specified)"
        r"|dub ensure (?P<variable2>\w+)",
        (LOG,),
        "KAFKA_PROCESS_ROLES is required.",
    ),
    Cause(
        "a host that is not found",
        "no host has that name where the client runs: check it, and have a reference write the address of a service of the "
        'class, "{kafka.bootstrap_servers}"',
        r"No resolvable bootstrap urls",
        (LOG,),
        "org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given in bootstrap.servers",
    ),
    Cause(
        "unknown setting",
        "the server does not take a setting of the declaration: see its name and value in the log, and whether this "
        "version has it",
        r"unrecognized configuration parameter|invalid value for parameter|FATAL CONFIG FILE ERROR|Bad directive or wrong"
        r"|Unresolved Configuration\(s\) Detected"
        r"|org\.apache\.kafka\.common\.config\.ConfigException|unknown variable '|unknown setting \[",
        (LOG,),
        'FATAL:  unrecognized configuration parameter "work_memory"',
    ),
    Cause(
        "data of another version",
        "the volume or directory holds data that another version of the server wrote: take that version, or an empty one",
        r"database files are incompatible with server|data directory was initialized by|Can't handle RDB format version"
        r"|Downgrade is not supported|upgrade from .* is not supported",
        (LOG,),
        "The data directory was initialized by PostgreSQL version 16, which is not compatible with this version 17",
    ),
    Cause(
        "no permission on its files",
        "the server's user may not use what is mounted there: change the owner of the files, or user=, or use a volume or "
        "files= in place of a directory",
        r"(chown|chmod|mkdir|initdb: error|changing ownership|could not change permissions).*"
        r"(permission denied|operation not permitted)|AccessDeniedException"
        r"|data directory \S+ has (wrong ownership|invalid permissions)",
        (LOG,),
        "chown: changing ownership of '/var/lib/postgresql/data': Operation not permitted",
    ),
    # What is wrong with how a test or an app connects.
    Cause(
        "a URL of another driver",
        "SQLAlchemy from 2.1 on takes postgresql:// for psycopg's: give it `postgres.sqlalchemy_url` or `asyncpg_url`, or "
        "install psycopg",
        r"ModuleNotFoundError: No module named 'psycopg'",
        (DRIVER, LOG),
        "ModuleNotFoundError: No module named 'psycopg'",
    ),
    Cause(
        "the server has a password",
        'connect with all of the URL, `self.redis.url` or "{redis.url}", with `self.redis.client()`, or with '
        "`password=self.redis.password`",
        r"HELLO must be called with the client already authenticated|(?-i:NOAUTH )|AuthenticationError: Authentication required",
        (DRIVER,),
        "redis.exceptions.AuthenticationError: HELLO must be called with the client already authenticated",
    ),
    Cause(
        "search in a numbered database",
        'indexes are made in number 0 alone: declare Redis(isolation="none", scope="class"), and call FLUSHALL in setUp',
        r"Cannot create index on db != 0",
        (DRIVER,),
        "redis.exceptions.ResponseError: Cannot create index on db != 0",
    ),
    Cause(
        "too many clients",
        'close some, or have Redis take more: settings={"maxclients": 500}, and for a local process `ulimit -n` of the shell at '
        "least 32 above",
        r"max number of clients reached",
        (DRIVER,),
        "redis.exceptions.ConnectionError: max number of clients reached",
    ),
    Cause(
        "too many clients",
        'close some, or have PostgreSQL take more: settings={"max_connections": 500}',
        r"sorry, too many clients already|remaining connection slots are reserved",
        (DRIVER,),
        "FATAL:  sorry, too many clients already",
    ),
    Cause(
        "a connection of another event loop",
        "make the engine or pool in the app's lifespan, not at module level, or use App.command; in a test, in asyncSetUp",
        r"attached to a different loop|is bound to a different event loop",
        (DRIVER,),
        "RuntimeError: Task ... got Future ... attached to a different loop",
    ),
    Cause(
        "a connection that is in use",
        "tasks side by side need one each; or its engine is an earlier event loop's: make it in the app's lifespan or asyncSetUp",
        r"another operation is in progress",
        (DRIVER,),
        "InterfaceError: cannot perform operation: another operation is in progress",
    ),
)


WHILE_RUNNING = ("too little shared memory", NO_SPACE, "too many threads", OUT_OF_MEMORY, "too many open files")
"""What a server may say and still run, so that it is only never ready."""
