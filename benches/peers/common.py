"""What the peers share: processes that are measured, the addresses of streams, and the interface that `compare` drives.

A peer is a class `Peer` in `<folder>/peer.py`:

    Peer.missing()          why it cannot run here, or None
    Peer(work, calls)       nothing is started yet; files go to the folder `work`
      .start()              start it and have all calls set up
      .targets              where stream n is to be sent, "IP:PORT" each; set by start()
      .processes            {part: process id} to be measured together; set by start()
      .idle_bytes           resident memory of those before there was a call
      .finish()             end the calls; returns [manifest of the judge, ...], one for each recorder that heard the calls
      .facts                what else is worth a column: {name: value}
      .stop()               end all processes, whatever happened before
"""

import ctypes
import ipaddress
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
SOURCE_PORT = 30_000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1
SOON = 60


class Failed(Exception):
    """A peer did not do what it should; the text says what and where to look."""


def source(stream):
    """Where the sender sends stream `stream` from: the rule of `src/net/load.rs`."""
    return str(ipaddress.IPv4Address("127.1.0.0") + stream), SOURCE_PORT


def die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process that speaks JSON lines on standard output and ends when its standard input does."""

    def __init__(self, command, log):
        self.log = Path(log)
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=die_with_parent,
            )

    def answer(self, limit=SOON):
        """Its next line."""
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise Failed(f"{self.process.args[0]} says nothing within {limit} s; see {self.log}:\n{self.tail()}")
        return json.loads(line)

    def end(self, limit):
        """Close its input and have its last line."""
        self.process.stdin.close()
        answer = self.answer(limit)
        self.process.wait(limit)
        return answer

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]


def cpu_seconds(pid):
    """Processor time of a process, all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def until(done, what, limit=SOON):
    """Wait until `done()` is true."""
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {limit} s")
        time.sleep(0.05)


def write_manifest(path, calls):
    """`calls`: for each call its legs, each (stream, path, channel), and whether they share one time."""
    with Path(path).open("w") as out:
        for legs, together in calls:
            legs = [{"stream": s, "path": str(p), "channel": c} for s, p, c in legs]
            out.write(json.dumps({"legs": legs, "together": together}) + "\n")
    return path


def sdp(stream):
    """An offer or answer of G.711 µ-law from where the sender sends `stream`."""
    address, port = source(stream)
    lines = [
        "v=0",
        f"o=- {stream} 1 IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        "a=ptime:20",
    ]
    return "".join(line + "\r\n" for line in lines)


def media_of(description):
    """The "IP:PORT" that an SDP asks for its audio."""
    address = port = None
    for line in description.splitlines():
        if line.startswith("c=IN IP4 "):
            address = line.split()[-1]
        elif line.startswith("m=audio "):
            port = line.split()[1]
    if not address or not port or port == "0":
        raise Failed(f"no audio in this description:\n{description}")
    return f"{address}:{port}"
