"""rtpengine in userspace (`--table=-1`), every call recorded to pcap: see README.md for why not to WAV."""

import subprocess

import ng
from common import PROJECT, Child, Failed, media_of, resident_bytes, sdp, write_manifest

LAB = PROJECT / "scripts" / "lab"
NG_PORT = 22_555
PORTS = (33_000, 57_999)


class Peer:
    name = "rtpengine (pcap)"
    version = "?"

    @staticmethod
    def missing():
        tried = subprocess.run([LAB, "rtpengine", "--version"], capture_output=True, text=True)
        if tried.returncode:
            return f"`scripts/lab rtpengine` does not run: {tried.stderr.strip()[-200:]}"
        Peer.version = (tried.stdout + tried.stderr).split("Version: ")[1].split("+")[0]
        return None

    def __init__(self, work, calls):
        self.work, self.calls = work, calls
        self.facts, self.child = {}, None
        self.spool = work / "spool"

    def start(self):
        self.spool.mkdir()
        command = [LAB, "rtpengine", "--foreground", "--log-stderr", "--log-level=4", "--table=-1"]
        command += ["--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{NG_PORT}"]
        command += [f"--port-min={PORTS[0]}", f"--port-max={PORTS[1]}", "--timeout=600", "--silent-timeout=600"]
        command += [f"--recording-dir={self.spool}", "--recording-method=pcap", f"--pidfile={self.work / 'pid'}"]
        self.child = Child(command, self.work / "rtpengine.log")
        self.control = ng.Control(NG_PORT)
        self.control.ask("ping")
        pid = self.child.process.pid
        self.processes = {"rtpengine": pid}
        self.idle_bytes = resident_bytes(pid)
        self.targets = []
        for call in range(self.calls):
            about = {"call_id": f"call{call}", "from_tag": "a", "record__call": "yes", "ICE": "remove"}
            offer = self.control.ask("offer", sdp=sdp(2 * call), **about)
            answer = self.control.ask("answer", sdp=sdp(2 * call + 1), to_tag="b", **about)
            # What the callee is offered is where it sends to, and the other way round.
            self.targets += [media_of(answer["sdp"]), media_of(offer["sdp"])]

    def finish(self):
        for call in range(self.calls):
            self.control.ask("delete", call_id=f"call{call}", from_tag="a", delete__delay=0)
        folder = self.spool / "pcaps"
        calls = []
        for call in range(self.calls):
            found = sorted(folder.glob(f"call{call}-*.pcap"))
            if not found:
                raise Failed(f"rtpengine recorded nothing of call {call}: see {self.work}")
            calls.append(([(2 * call + leg, found[0], 0) for leg in (0, 1)], True))
        self.child.stop()
        return {self.name: write_manifest(self.work / "manifest", calls)}

    def stop(self):
        if self.child:
            self.child.stop()
