"""Places where several machines keep what they share, as DVC's remotes: real servers on this machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

# What DVC's configuration says of one: its address and whatever else it takes to reach it.
Remote = dict[str, str]


@contextmanager
def folder(place: Path) -> Iterator[Remote]:
    yield {"url": str(place / "remote")}


@contextmanager
def s3(place: Path) -> Iterator[Remote]:
    pytest.importorskip("dvc_s3", reason="pip install dvc-s3 'moto[server]'")
    server = pytest.importorskip("moto.server", reason="pip install dvc-s3 'moto[server]'")
    import boto3

    threaded = server.ThreadedMotoServer("127.0.0.1", port=0)
    threaded.start()
    try:
        url = "http://{}:{}".format(*threaded.get_host_and_port())
        keys = {"access_key_id": "any", "secret_access_key": "any", "region": "us-east-1"}
        client = boto3.client("s3", endpoint_url=url, aws_access_key_id="any", aws_secret_access_key="any")
        client.create_bucket(Bucket="lab")
        yield {"url": "s3://lab/cache", "endpointurl": url, **keys}
    finally:
        threaded.stop()


@contextmanager
def ssh(place: Path) -> Iterator[Remote]:
    """OpenSSH's server, with keys of its own."""
    pytest.importorskip("dvc_ssh", reason="pip install dvc-ssh")
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or (os.geteuid() == 0 and not Path("/run/sshd").is_dir()):
        pytest.skip("apt install openssh-server; as root also mkdir /run/sshd, as its service does")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": f'"{place / "host"}"',
        "AuthorizedKeysFile": f'"{place / "user.pub"}"',
        "PidFile": "none",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (place / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in said.items()))
    log = place / "sshd.log"
    server = subprocess.Popen([sshd, "-D", "-E", str(log), "-f", str(place / "sshd_config")], start_new_session=True)
    try:
        for _ in range(100):
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"sshd answers nobody: {log.read_text()}")
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{place}/remote"
        yield {"url": url, "keyfile": str(place / "user")}
    finally:
        of_connections = psutil.Process(server.pid).children(recursive=True)  # which outlive it while one is open
        for process in (server, *of_connections):
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        server.wait()


KINDS: dict[str, Callable[[Path], AbstractContextManager[Remote]]] = {"folder": folder, "s3": s3, "ssh": ssh}
