"""Both ends of many SIP calls through one Asterisk, as little SIP as that takes: one UDP socket, INVITE, ACK, BYE.

The caller of call N is stream 2N, the called party, whom Asterisk dials as `sip:b-N@…`, stream 2N + 1. Media is the sender's
business: the descriptions name the sender's addresses, and what Asterisk answers is where it wants the streams.
"""

import re
import socket
import threading
import time

from common import Failed, media_of, sdp

RESEND_SECONDS = 0.5
AT_ONCE = 20
"""Calls being set up at a time."""


class Message:
    def __init__(self, data):
        head, _, self.body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        self.first, *lines = head.split("\r\n")
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]

    def all(self, name):
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name):
        return next(iter(self.all(name)), "")

    @property
    def status(self):
        return int(self.first.split()[1]) if self.first.startswith("SIP/2.0") else None

    @property
    def method(self):
        return self.get("cseq").split()[-1]


class Call:
    def __init__(self, number):
        self.number = number
        self.state = "new"
        self.sent = 0.0
        self.media = {}
        self.contact = self.remote = ""


class Phones:
    def __init__(self, asterisk, dial):
        """`asterisk`: (address, port); `dial`: the extension that the calls go to."""
        self.asterisk, self.dial = asterisk, dial
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.port = self.socket.getsockname()[1]
        self.calls, self.ending, self.failure = {}, False, None
        self.lock = threading.Lock()
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def place(self, count, limit=120):
        """Set up calls 0 to count - 1; returns when all are up, with both legs' media known."""
        with self.lock:
            self.calls = {number: Call(number) for number in range(count)}
        self._wait(lambda call: call.state == "up" and len(call.media) == 2, limit, "calls are not up")

    def targets(self):
        return [self.calls[number].media[leg] for number in sorted(self.calls) for leg in "ab"]

    def hang_up(self, limit=60):
        with self.lock:
            self.ending = True
        self._wait(lambda call: call.state == "over", limit, "calls do not end")

    def close(self):
        self.running = False
        self.thread.join()
        self.socket.close()

    def _wait(self, done, limit, what):
        deadline = time.monotonic() + limit
        while True:
            with self.lock:
                left = sum(not done(call) for call in self.calls.values())
            if self.failure:
                raise Failed(self.failure)
            if not left:
                return
            if time.monotonic() > deadline:
                raise Failed(f"{left} of {len(self.calls)} {what} within {limit} s")
            time.sleep(0.02)

    def _run(self):
        while self.running:
            try:
                self._take(Message(self.socket.recv(65_536)))
            except TimeoutError:
                pass
            with self.lock:
                self._drive(time.monotonic())

    def _drive(self, now):
        inviting = 0
        for call in self.calls.values():
            due = now - call.sent > RESEND_SECONDS
            if call.state == "new" and inviting < AT_ONCE:
                call.state = "inviting"
                due = True
            # Up for the caller, and the called party's description came before that.
            inviting += call.state in ("inviting", "ringing")
            if call.state == "up" and self.ending:
                call.state, due = "ending", True
            if due and call.state == "inviting":
                self._send_request(call, "INVITE", now)
            if due and call.state == "ending":
                self._send_request(call, "BYE", now)

    def _send_request(self, call, method, now=None):
        number = call.number
        uri = f"sip:{self.dial}@{self.asterisk[0]}:{self.asterisk[1]}"
        target = f"<{uri}>" if method == "INVITE" else call.remote
        body = sdp(2 * number) if method == "INVITE" else ""
        cseq = 2 if method == "BYE" else 1
        lines = [
            f"{method} {uri if method == 'INVITE' else call.contact} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK-{self.port}-{number}-{method}",
            f"From: <sip:{1000 + number}@127.0.0.1:{self.port}>;tag=a{number}",
            f"To: {target}",
            f"Call-ID: call{number}-{self.port}@127.0.0.1",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:a-{number}@127.0.0.1:{self.port}>",
            "Max-Forwards: 70",
            f"X-Number: {number}",
            f"X-Phones: 127.0.0.1:{self.port}",
        ]
        self._send(lines, body)
        if now is not None:
            call.sent = now

    def _send(self, lines, body=""):
        if body:
            lines = [*lines, "Content-Type: application/sdp"]
        head = "".join(line + "\r\n" for line in [*lines, f"Content-Length: {len(body)}"])
        self.socket.sendto((head + "\r\n" + body).encode(), self.asterisk)

    def _take(self, message):
        with self.lock:
            if message.status is None:
                self._answer(message)
            else:
                self._answered(message)

    def _answered(self, message):
        match = re.match(r"call(\d+)-", message.get("call-id"))
        call = self.calls.get(int(match.group(1))) if match else None
        if call is None:
            return
        if message.method == "BYE" and message.status >= 200:
            call.state = "over"
        elif message.method == "INVITE" and message.status < 200:
            if call.state == "inviting":
                call.state = "ringing"
        elif message.method == "INVITE" and message.status >= 300:
            self.failure = f"Asterisk refuses call {call.number}: {message.first}"
        elif message.method == "INVITE":
            call.remote = message.get("to")
            call.contact = re.search(r"<([^>]+)>", message.get("contact")).group(1)
            self._send_request(call, "ACK")
            if call.state in ("inviting", "ringing"):
                call.state = "up"
                call.media["a"] = media_of(message.body)

    def _answer(self, message):
        method, uri = message.first.split()[:2]
        if method == "ACK":
            return
        number = re.match(r"sip:b-(\d+)@", uri)
        body = ""
        if method == "INVITE" and number:
            call = self.calls[int(number.group(1))]
            call.media["b"] = media_of(message.body)
            body = sdp(2 * call.number + 1)
        echoed = [f"Via: {via}" for via in message.all("via")]
        to = message.get("to")
        tag = "" if ";tag=" in to else f";tag=b{number.group(1) if number else 0}"
        lines = ["SIP/2.0 200 OK", *echoed, f"From: {message.get('from')}", f"To: {to}{tag}"]
        lines += [f"Call-ID: {message.get('call-id')}", f"CSeq: {message.get('cseq')}"]
        contact = number.group(0)[4:-1] if number else "phone"
        self._send([*lines, f"Contact: <sip:{contact}@127.0.0.1:{self.port}>"], body)
