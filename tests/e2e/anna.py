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
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq
from aft._wire import aft_pb2 as aft
from aft._wire import anna_pb2 as anna
from google.protobuf.message import DecodeError

from daemon import BINARY
from wire import NoAnswer, lww

EXTERNAL = os.environ.get("AFT_TEST_ANNA")
IP = os.environ.get("AFT_TEST_IP", "127.0.0.1")
_numbers = itertools.count()
ours = pytest.mark.skipif(
    bool(EXTERNAL), reason="needs a store that can be stopped and told to misbehave"
)


class Server:
    """`aft anna-server`, or the Anna that the environment names."""

    def __init__(self, data: Path | None = None, on: Sequence[str] = (), ip: str = IP) -> None:
        self.on = on
        self.options = ["--threads", "3", "--routing-threads", "2", "--admin", "127.0.0.1:0"]
        self.options += [] if EXTERNAL else ["--ip", ip]
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
        command = [*self.on, BINARY, "anna-server", "--port-offset", self.offset, *self.options]
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

    def count(self, *counters: str) -> int:
        """What it counted since it started."""
        with urllib.request.urlopen(f"http://{self.admin}/status", timeout=10) as answer:
            counted = json.loads(answer.read())["counters"]
        return sum(int(counted[name]) for name in counters)

    def live_objects(self) -> int:
        """Keys that read as something."""
        with urllib.request.urlopen(f"http://{self.admin}/status", timeout=10) as answer:
            status = json.loads(answer.read())
        return int(status["keys"]) - int(status["keys_deleted"])

    def requests(self) -> int:
        return self.count("key_requests", "address_requests")

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

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.context.destroy(linger=0)

    def send(self, endpoint: str, message: bytes) -> None:
        if endpoint not in self.sockets:
            self.sockets[endpoint] = self.context.socket(zmq.PUSH)
            self.sockets[endpoint].connect(endpoint)
        self.sockets[endpoint].send(message)

    def receive(self, deadline: float) -> bytes:
        if not self.inbox.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            raise NoAnswer("the store")
        return self.inbox.recv()

    def thread_of(self, key: str) -> str:
        """The endpoint of the storage thread that has a key."""
        deadline = time.monotonic() + 10
        name = f"a{next(_numbers)}"
        request = anna.KeyAddressRequest(response_address=self.address, request_id=name, keys=[key])
        self.send(self.routing, request.SerializeToString())
        found = anna.KeyAddressResponse()
        while found.response_id != name:
            found = anna.KeyAddressResponse.FromString(self.receive(deadline))
        return found.addresses[0].ips[0]

    def ask(self, request: anna.KeyRequest) -> anna.KeyTuple:
        """The answer for the one key of a request, from whichever thread has it."""
        deadline = time.monotonic() + 10
        while True:
            endpoint = self.thread_of(request.tuples[0].key)
            request.response_address, request.request_id = self.address, f"k{next(_numbers)}"
            self.send(endpoint, request.SerializeToString())
            answer = anna.KeyResponse()
            while answer.response_id != request.request_id:
                answer = anna.KeyResponse.FromString(self.receive(deadline))
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

    def pair(self, key: str) -> aft.KeyValuePair | None:
        """What a sidecar published under a key, checked for what does not depend on the value."""
        stored = self.lww(key)
        if stored is None:
            return None
        try:
            pair = aft.KeyValuePair.FromString(stored.value)
        except DecodeError:
            return None
        assert (pair.key, pair.timestamp) == (key, stored.timestamp)
        assert pair.tid
        assert pair.mark
        return pair

    def published(self, key: str) -> bytes | None:
        pair = self.pair(key)
        return pair.value if pair else None

    def until_published(self, values: Mapping[str, bytes], seconds: float = 10) -> None:
        """Waits until exactly these values stand under their keys' own names."""
        deadline = time.monotonic() + seconds
        missing = dict(values)
        while missing := {k: v for k, v in missing.items() if self.published(k) != v}:
            assert time.monotonic() < deadline, f"not there: {[key[:200] for key in missing]}"

    def elements(self, key: str) -> set[bytes]:
        """What a set holds."""
        found = self.get(key)
        if found.error:
            return set()
        assert found.lattice_type in (anna.SET, anna.ORDERED_SET)
        return set(anna.SetValue.FromString(found.payload).values)

    def put(self, key: str, kind: anna.LatticeType, payload: bytes) -> None:
        stored = anna.KeyTuple(key=key, lattice_type=kind, payload=payload)
        answer = self.ask(anna.KeyRequest(type=anna.PUT, tuples=[stored]))
        assert (answer.error, answer.lattice_type) == (anna.NO_ERROR, kind), "it was not stored"

    def put_lww(self, key: str, timestamp: int, value: bytes) -> None:
        self.put(key, anna.LWW, lww(value, timestamp))

    def put_object(self, key: str, value: bytes) -> None:
        """What Cloudburst's `put_object` does: its time is in tenths of seconds."""
        self.put_lww(key, int(time.time() * 10), value)


def storage(server: Server, *more: str) -> Sequence[str]:
    """The options of a sidecar on this store."""
    return ("--storage", "anna", "--anna-routing", server.routing, "--ip", IP, *more)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
