# SPDX-License-Identifier: Apache-2.0
"""A registry on a thread, as much of one as Docker needs for a pull (OCI distribution, the part below /v2/).

It listens on 127.0.0.1, which Docker trusts without a certificate.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


def layer_of(client: Any, image: str) -> bytes:
    """The only layer of an image that Docker has, as a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(client.get_image(image)))) as saved:
        [manifest] = json.loads(_read(saved, "manifest.json"))
        [layer] = manifest["Layers"]
        return _read(saved, layer)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


class Registry(ThreadingHTTPServer):
    """Holds what `push` was given. `asked` are the paths of all requests for a manifest.

    `login`: the `user:password` without which nothing is given away. `refusal`: a status and a code of the distribution
    specification (`TOOMANYREQUESTS`) that every request for a manifest is answered with.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = ""
        self.refusal: tuple[int, str, str] | None = None
        self.asked: list[str] = []
        self._manifests: dict[str, tuple[str, bytes]] = {}
        self._blobs: dict[str, bytes] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def push(self, name: str, layer: bytes, *architectures: str, **env: str) -> None:
        """Have an image of one layer under a name (`acme/web:1`), for one or several architectures."""
        manifests = [
            (architecture, self._manifest(layer, architecture, env)) for architecture in architectures or ("amd64",)
        ]
        if not architectures:
            self._name(name, MANIFEST, manifests[0][1])
            return
        entries = []
        for architecture, content in manifests:
            digest = self._name(f"{name.partition(':')[0]}@", MANIFEST, content)
            platform = {"os": "linux", "architecture": architecture}
            entries.append({"mediaType": MANIFEST, "size": len(content), "digest": digest, "platform": platform})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        self._name(name, INDEX, json.dumps(index).encode())

    def manifest(self, repository: str, reference: str) -> tuple[str, bytes] | None:
        return self._manifests.get(f"{repository}:{reference}")

    def blob(self, digest: str) -> bytes | None:
        return self._blobs.get(digest)

    def _manifest(self, layer: bytes, architecture: str, env: dict[str, str]) -> bytes:
        packed = gzip.compress(layer, 1, mtime=0)
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/bin", *(f"{name}={value}" for name, value in env.items())], "Cmd": ["env"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": "2026-01-01T00:00:00Z"}],
        }
        parts = {
            "application/vnd.docker.container.image.v1+json": json.dumps(config).encode(),
            "application/vnd.docker.image.rootfs.diff.tar.gzip": packed,
        }
        self._blobs.update({_digest(content): content for content in parts.values()})
        first, second = (
            {"mediaType": kind, "size": len(content), "digest": _digest(content)} for kind, content in parts.items()
        )
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": first, "layers": [second]}).encode()

    def _name(self, name: str, kind: str, content: bytes) -> str:
        repository, _, tag = name.rstrip("@").partition(":")
        digest = _digest(content)
        self._manifests[f"{repository}:{digest}"] = kind, content
        if tag:
            self._manifests[f"{repository}:{tag}"] = kind, content
        return digest


class _Handler(BaseHTTPRequestHandler):
    server: Registry
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        registry = self.server
        if registry.login and self.headers.get("Authorization") != f"Basic {_base64(registry.login)}":
            self.refuse(401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": 'Basic realm="sample"'})
        elif self.path == "/v2/":
            self.give("application/json", b"{}")
        elif "/manifests/" in self.path:
            registry.asked.append(f"{self.command} {self.path}")
            repository, _, reference = self.path.removeprefix("/v2/").partition("/manifests/")
            found = registry.manifest(repository, reference)
            if registry.refusal is not None:
                self.refuse(*registry.refusal)
            elif found is None:
                self.refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            else:
                self.give(*found, **{"Docker-Content-Digest": _digest(found[1])})
        elif (content := registry.blob(self.path.rpartition("/")[2])) is not None:
            self.give("application/octet-stream", content)
        else:
            self.refuse(404, "BLOB_UNKNOWN", "blob unknown")

    do_HEAD = do_GET

    def refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        content = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.give("application/json", content, status, **headers)

    def give(self, kind: str, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        facts = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in {"Docker-Distribution-API-Version": "registry/2.0", **facts, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
