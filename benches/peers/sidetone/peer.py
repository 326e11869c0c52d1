"""Sidetone's receive plane and recorder as a peer, without an Asterisk: `peers record`."""

import os
import re

from common import PROJECT, Child


class Peer:
    name = "Sidetone"
    version = re.search(r'^version = "(.*)"', (PROJECT / "Cargo.toml").read_text(), re.M).group(1)

    @staticmethod
    def missing():
        return None

    def __init__(self, work, calls):
        self.work, self.calls = work, calls
        self.facts, self.child = {}, None

    def start(self):
        tool = os.environ["PEERS_TOOL"]
        self.child = Child([tool, "record", "--calls", self.calls, "--out", self.work], self.work / "record.log")
        ready = self.child.answer()
        self.idle_bytes = ready["idle_bytes"]
        self.targets = (self.work / "targets").read_text().split()
        self.processes = {"sidetone": self.child.process.pid}

    def finish(self):
        # Sealing reads every file again, for its SHA-256.
        self.facts |= self.child.end(600)
        notes = {"writer behind, ms:": self.facts["write_lag_ms"], "on disk after, ms:": self.facts["durable_lag_ms"]}
        for fact in ("kernel_drops", "packets_too_late", "unroutable"):
            if self.facts[fact]:
                notes[fact.replace("_", " ")] = self.facts[fact]
        if failed := self.facts["recordings_failed"]:
            notes[f"{len(failed)} recordings failed, one with:"] = failed[0]
        self.facts["notes"] = notes
        return {self.name: self.work / "manifest"}

    def stop(self):
        if self.child:
            self.child.stop()
