"""A receiver as many write it first: an asyncio datagram endpoint a stream, payloads decoded and appended as they come.

Written for the comparison, after the shape of the Python media servers that one meets beside Asterisk: no jitter buffer, no
timestamps, a WAV a leg. It is not made slow on purpose: `audioop` decodes in C where Python still has it, else a table does,
and files are written through a buffer.

    receiver.py --calls N --out FOLDER
"""

import argparse
import asyncio
import json
import os
import resource
import struct
import sys
import time
import wave
from pathlib import Path

try:
    from audioop import ulaw2lin
except ImportError:  # Python 3.13 and later

    def _pcm(code):
        bits = ~code & 0xFF
        magnitude = (((bits & 0x0F) << 3) + 0x84) << (bits >> 4 & 7)
        return 0x84 - magnitude if bits & 0x80 else magnitude - 0x84

    TABLE = [struct.pack("<h", _pcm(code)) for code in range(256)]

    def ulaw2lin(codes, _width):
        return b"".join([TABLE[code] for code in codes])


HEADER = 12


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Receiver(asyncio.DatagramProtocol):
    """One stream, one file."""

    def __init__(self, path):
        self.packets = 0
        self.wav = wave.open(str(path), "wb")
        self.wav.setparams((1, 2, 8000, 0, "NONE", ""))

    def datagram_received(self, data, address):
        if len(data) > HEADER and data[0] >> 6 == 2:
            self.packets += 1
            self.wav.writeframesraw(ulaw2lin(data[HEADER:], 2))


async def run(calls, out):
    loop = asyncio.get_running_loop()
    idle = resident_bytes()
    receivers, targets = [], []
    for stream in range(2 * calls):
        transport, receiver = await loop.create_datagram_endpoint(
            lambda stream=stream: Receiver(out / f"{stream}.wav"), local_addr=("127.0.0.1", 0)
        )
        receivers.append((transport, receiver))
        targets.append("%s:%d" % transport.get_extra_info("sockname")[:2])
    print(json.dumps({"targets": targets, "idle_bytes": idle}), flush=True)

    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    most_behind = 0.0
    while not ended.is_set():
        asked = time.monotonic()
        try:
            await asyncio.wait_for(ended.wait(), 0.02)
        except asyncio.TimeoutError:
            most_behind = max(most_behind, time.monotonic() - asked - 0.02)
    loop.remove_reader(sys.stdin)

    for transport, receiver in receivers:
        transport.close()
        receiver.wav.close()
    packets = sum(receiver.packets for _, receiver in receivers)
    print(json.dumps({"packets": packets, "loop_behind_ms": round(1e3 * most_behind)}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(run(arguments.calls, arguments.out))


if __name__ == "__main__":
    main()
