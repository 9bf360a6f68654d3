#!/usr/bin/env python3
"""Puts load on a sidecar (or on the floor) from Python; `aft bench ipc` starts it.

It does what `aft bench client` does, with the same options and the same output, so that the two can be
compared. The messages are put together by hand: what is measured is pyzmq and the sidecar, not a
protobuf library. Needs pyzmq.
"""

import argparse
import json
import os
import random
import sys
import time

import zmq

KINDS = ["start", "get", "put", "continue", "commit", "abort"]
ANSWER_MAX_MS = 10_000
TURN_NS = 100_000_000
REQUESTS_PER_ABORTED = 8
REQUEST_ID_BYTES = 12
COMMITTED, ABORTED = 1, 2


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def nested(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data):
    """The fields of a message: numbers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        elif tag & 7 == 2:
            length, at = read_varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"a field of wire type {tag & 7}")
        yield tag >> 3, value


class Refused(Exception):
    """The transaction cannot go on."""


class Session:
    def __init__(self, options, ipc_dir):
        self.options = options
        self.answers_at = f"ipc://{ipc_dir}/b-{options.name}".encode()
        context = zmq.Context.instance()
        self.answers = context.socket(zmq.PULL)
        self.answers.setsockopt(zmq.LINGER, 0)
        self.answers.setsockopt(zmq.RCVTIMEO, ANSWER_MAX_MS)
        self.answers.bind(self.answers_at.decode())
        self.targets = {kind: self.connect(context, f"ipc://{ipc_dir}/{kind}") for kind in KINDS}
        self.value = nested(2, bytes([7]) * options.value_bytes)
        self.payload = varint(1 << 3) + varint(1_790_000_000_000_000_000) + self.value
        self.random = random.Random(os.getpid())
        self.requests = self.failed = self.transactions = 0
        self.seconds = 0.0
        self.times = {}
        self.counts = False

    @staticmethod
    def connect(context, endpoint):
        socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDTIMEO, ANSWER_MAX_MS)
        socket.connect(endpoint)
        return socket

    def call(self, operation, kind, request):
        self.requests += 1
        socket = self.targets[kind]
        began = time.perf_counter_ns()
        socket.send(request)
        answer = self.answers.recv()
        self.record(operation, time.perf_counter_ns() - began)
        return answer

    def record(self, operation, nanos):
        if self.counts:
            # Three digits are enough, and keep the output short.
            step = 10 ** max(0, len(str(nanos)) - 3)
            nanos = nanos // step * step
            seen = self.times.setdefault(operation, {})
            seen[nanos] = seen.get(nanos, 0) + 1

    def tag(self, operation, kind, request, hoped):
        tag = dict(fields(self.call(operation, kind, request)))
        if tag.get(2, 0) != hoped or not tag.get(1):
            raise Refused(tag.get(17, b""))
        return tag[1]

    def start(self, operation):
        return self.tag(operation, "start", self.answers_at, 0)

    def commit(self, txn):
        self.tag("commit", "commit", nested(1, txn) + nested(2, self.answers_at), COMMITTED)

    def abort(self, txn):
        self.tag("abort", "abort", txn + b"~" + self.answers_at, ABORTED)

    def keys(self, operation, kind, txn, tuples):
        request_id = b"%0*d" % (REQUEST_ID_BYTES, self.requests)
        parts = [varint(1 << 3), varint(KINDS.index(kind))]
        parts += [nested(2, one) for one in tuples]
        parts += [nested(2, nested(1, b"TRANSACTION_ID") + nested(4, txn))]
        parts += [nested(3, self.answers_at), nested(4, request_id)]
        response_id, error, answered = b"", 0, []
        for field, value in fields(self.call(operation, kind, b"".join(parts))):
            if field == 3:
                response_id = value
            elif field == 4:
                error = value
            elif field == 2:
                answered.append(dict(fields(value)))
        if response_id != request_id:
            sys.exit(f"the answer to {request_id} is for {response_id}")
        if error or any(one.get(3, 0) for one in answered):
            raise Refused(error)
        return answered

    def key(self):
        return nested(1, b"bench-%08d" % self.random.randrange(self.options.keys))

    def get(self, operation, txn):
        (answer,) = self.keys(operation, "get", txn, [self.key()])
        if not answer[4].endswith(self.value):
            sys.exit("a value of the wrong size")

    def put(self, operation, txn):
        lww = varint(2 << 3) + varint(1)
        self.keys(operation, "put", txn, [self.key() + lww + nested(4, self.payload)])

    def aborted(self):
        txn = self.start("start")
        for _ in range(REQUESTS_PER_ABORTED):
            self.get("get", txn)
        for _ in range(REQUESTS_PER_ABORTED):
            self.put("put", txn)
        self.abort(txn)

    def whole(self):
        began = time.perf_counter_ns()
        txn = self.start("start in txn")
        self.get("get in txn", txn)
        self.get("get in txn", txn)
        self.put("put in txn", txn)
        self.commit(txn)
        self.record("transaction", time.perf_counter_ns() - began)


def repeat(sessions, seconds, counts, once):
    """Does something again and again, in turns; all clients change at the same moments."""
    for session in sessions:
        session.counts = counts
        session.transactions = 0
        session.seconds = 0.0
    until = time.perf_counter() + seconds * len(sessions)
    while (began := time.perf_counter()) < until:
        session = sessions[time.time_ns() // TURN_NS % len(sessions)]
        try:
            once(session)
            session.transactions += 1
        except Refused:
            session.failed += 1
        session.seconds += time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ipc-dir", required=True, action="append")
    parser.add_argument("--name", required=True)
    parser.add_argument("--plan", choices=["mix"], default="mix")
    parser.add_argument("--threads", type=int, choices=[1], default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--warmup-seconds", type=float, default=0.2)
    parser.add_argument("--writes", type=int, choices=[1], default=1)
    parser.add_argument("--value-bytes", type=int, default=4096)
    parser.add_argument("--keys", type=int, default=1000)
    options = parser.parse_args()
    sessions = [Session(options, ipc_dir) for ipc_dir in options.ipc_dir]
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    for seconds, counts in [(options.warmup_seconds / 2, False), (options.seconds / 2, True)]:
        repeat(sessions, seconds, counts, Session.aborted)
        repeat(sessions, seconds, counts, Session.whole)
    for session in sessions:
        measured = {
            "seconds": session.seconds,
            "transactions": session.transactions,
            "failed": session.failed,
            "requests": session.requests,
            "times": {name: sorted(seen.items()) for name, seen in session.times.items()},
        }
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
