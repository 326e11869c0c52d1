"""A client of rtpengine's NG control protocol: a cookie and a bencoded dictionary a datagram, answered alike."""

import itertools
import socket

from common import Failed

TRIES = 5


def encode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        return b"d" + b"".join(encode(key) + encode(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(f"bencode has no {type(value).__name__}")


def decode(data):
    """The first value in `data`."""
    return _decode(data, 0)[0]


def _decode(data, at):
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items, at = [], at + 1
        while data[at : at + 1] != b"e":
            item, at = _decode(data, at)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1 : end].decode("utf-8", "replace"), end


class Control:
    def __init__(self, port):
        self.address = ("127.0.0.1", port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(1)
        self.numbers = itertools.count(1)

    def ask(self, command, **parameters):
        """One command; its answer, unless that is an error. Keys are written with `_` for the protocol's spaces and `-`."""
        asked = {"command": command} | {key.replace("__", " ").replace("_", "-"): v for key, v in parameters.items()}
        # Repeated with its cookie, a command is answered again and not done again.
        cookie = b"%d-%d" % (id(self), next(self.numbers))
        for _ in range(TRIES):
            self.socket.sendto(cookie + b" " + encode(asked), self.address)
            try:
                while True:
                    got, _, rest = self.socket.recv(65_536).partition(b" ")
                    if got == cookie:
                        break
            except (TimeoutError, ConnectionRefusedError):
                continue
            answer = decode(rest)
            if answer.get("result") not in ("ok", "pong"):
                raise Failed(f"rtpengine refuses {command}: {answer}")
            return answer
        raise Failed(f"rtpengine does not answer {command} on {self.address}")
