"""A store that speaks Anna's protocol, and a client that looks into it as Cloudburst's programs do.

`AFT_TEST_ANNA=HOST[:PORT]` names the routing tier of an Anna to use instead of the server that comes
with this project; `AFT_TEST_IP` is this machine's address as that Anna sees it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq
from aft._wire import anna_pb2 as anna

from daemon import BINARY

EXTERNAL = os.environ.get("AFT_TEST_ANNA")
IP = os.environ.get("AFT_TEST_IP", "127.0.0.1")
_numbers = itertools.count()


class Server:
    """`aft anna-server`, or the Anna that the environment names."""

    def __init__(self, data: Path | None = None) -> None:
        self.options = ["--threads", "3", "--routing-threads", "2", "--admin", "127.0.0.1:0"]
        if data:
            self.options += ["--data-dir", str(data)]
        self.offset = "free"
        self.process: subprocess.Popen[str] | None = None
        if EXTERNAL:
            self.routing = EXTERNAL
        else:
            self.start()

    def start(self) -> None:
        """Starts it, where it was before if it ran before."""
        command = [BINARY, "anna-server", "--port-offset", self.offset, *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        ready = self.process.stdout.readline()
        found = re.search(r"routing=tcp://([^,\s]+).* port-offset=(\d+) .*admin=(\S+)", ready)
        assert found, ready
        self.routing, self.offset, self.admin = found[1], found[2], found[3]

    def post(self, path: str, **what: Any) -> None:
        request = urllib.request.Request(
            f"http://{self.admin}{path}",
            data=json.dumps(what).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10):
            pass

    def misbehave(self, **how: Any) -> None:
        self.post("/misbehave", **how)

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            if self.process.stdout:
                self.process.stdout.close()
            self.process = None


class Reader:
    """Reads and writes single keys, straight in the store."""

    def __init__(self, routing: str) -> None:
        self.routing = f"tcp://{routing if ':' in routing else routing + ':6450'}"
        self.context = zmq.Context()
        self.inbox = self.context.socket(zmq.PULL)
        port = self.inbox.bind_to_random_port(f"tcp://{IP}")
        self.address = f"tcp://{IP}:{port}"
        self.sockets: dict[str, zmq.Socket[bytes]] = {}

    def close(self) -> None:
        self.context.destroy(linger=0)

    def call(self, endpoint: str, message: bytes) -> bytes:
        if endpoint not in self.sockets:
            self.sockets[endpoint] = self.context.socket(zmq.PUSH)
            self.sockets[endpoint].connect(endpoint)
        self.sockets[endpoint].send(message)
        assert self.inbox.poll(10_000), "the store does not answer"
        return self.inbox.recv()

    def ask(self, request: anna.KeyRequest) -> anna.KeyTuple:
        key = request.tuples[0].key
        where = anna.KeyAddressRequest(
            response_address=self.address, request_id=f"a{next(_numbers)}", keys=[key]
        )
        while True:
            found = anna.KeyAddressResponse.FromString(
                self.call(self.routing, where.SerializeToString())
            )
            endpoint = found.addresses[0].ips[0]
            request.response_address, request.request_id = self.address, f"k{next(_numbers)}"
            answer = anna.KeyResponse.FromString(self.call(endpoint, request.SerializeToString()))
            if answer.tuples[0].error != anna.WRONG_THREAD:
                return answer.tuples[0]

    def get(self, key: str) -> anna.KeyTuple:
        return self.ask(anna.KeyRequest(type=anna.GET, tuples=[anna.KeyTuple(key=key)]))

    def lww(self, key: str) -> anna.LWWValue | None:
        found = self.get(key)
        if found.error:
            return None
        assert found.lattice_type == anna.LWW
        return anna.LWWValue.FromString(found.payload)

    def put_lww(self, key: str, timestamp: int, value: bytes) -> None:
        payload = anna.LWWValue(timestamp=timestamp, value=value).SerializeToString()
        stored = anna.KeyTuple(key=key, lattice_type=anna.LWW, payload=payload)
        answer = self.ask(anna.KeyRequest(type=anna.PUT, tuples=[stored]))
        assert (answer.error, answer.lattice_type) == (anna.NO_ERROR, anna.LWW)


def storage(server: Server, *more: str) -> Sequence[str]:
    """The options of a sidecar on this store."""
    return ("--storage", "anna", "--anna-routing", server.routing, "--ip", IP, *more)
