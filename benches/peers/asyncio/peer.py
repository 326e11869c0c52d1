"""The asyncio receiver as a peer."""

import sys

from common import HERE, Child, write_manifest


class Peer:
    name = "asyncio (Python)"
    version = "Python " + ".".join(map(str, sys.version_info[:3]))

    @staticmethod
    def missing():
        return None

    def __init__(self, work, calls):
        self.work, self.calls = work, calls
        self.facts, self.child = {}, None

    def start(self):
        receiver = HERE / "asyncio" / "receiver.py"
        self.child = Child(
            [sys.executable, receiver, "--calls", self.calls, "--out", self.work], self.work / "receiver.log"
        )
        ready = self.child.answer()
        self.targets, self.idle_bytes = ready["targets"], ready["idle_bytes"]
        self.processes = {"receiver": self.child.process.pid}

    def finish(self):
        self.facts |= self.child.end(120)
        self.facts["notes"] = {"loop behind, ms:": self.facts["loop_behind_ms"]}
        streams = range(2 * self.calls)
        # Each file begins with its own first packet: nothing says how the two of a call belong together.
        calls = [([(stream, self.work / f"{stream}.wav", 0)], False) for stream in streams]
        return {self.name: write_manifest(self.work / "manifest", calls)}

    def stop(self):
        if self.child:
            self.child.stop()
