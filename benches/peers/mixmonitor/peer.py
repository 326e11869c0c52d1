"""Asterisk's own MixMonitor, and Sidetone tapping an Asterisk, on SIP calls through the lab's Asterisk 22.

What hears the calls is the variant (extensions.conf). The plain one is what a call costs Asterisk without being recorded.
"""

import json
import os
import re
import socket
import subprocess
import urllib.request

from common import PROJECT, Child, Failed, resident_bytes, until, write_manifest
from sip import Phones

LAB = PROJECT / "scripts" / "lab"
EXTENSIONS = PROJECT / "benches" / "peers" / "mixmonitor" / "extensions.conf"
RTP = (10_000, 17_999)
"""Ports for Asterisk's RTP, more than the lab gives an instance: 2 a leg, and 4 more a call for Sidetone."""


def sidetone_binary():
    named = os.environ.get("PEERS_SIDETONE")
    if named:
        return named
    return str(PROJECT / "target" / "release" / "sidetone")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class OnAsterisk:
    variant = name = ""
    version = "?"

    @classmethod
    def missing(cls):
        tried = subprocess.run([LAB, "setup", "22"], capture_output=True, text=True)
        if tried.returncode:
            return f"`scripts/lab setup 22` fails: {tried.stderr.strip()[-200:]}"
        if cls.variant in ("tap", "both") and not os.access(sidetone_binary(), os.X_OK):
            return f"{sidetone_binary()} is not built: cargo build --release, or PEERS_SIDETONE=PATH"
        root = os.environ.get("SIDETONE_LAB_ROOTS", PROJECT / "build" / "lab")
        with open(os.path.join(root, "root-22", ".complete")) as release:
            cls.version = release.read().split("~")[0].strip()
        return None

    def __init__(self, work, calls):
        self.work, self.calls = work, calls
        self.lab = work / "lab"
        self.facts, self.phones, self.sidetone, self.started = {}, None, None, False

    def start(self):
        self.started = True
        self._lab("start", "--dir", self.lab, "--version", "22", "--owner", os.getpid())
        self.env = dict(line.split("=", 1) for line in (self.lab / "env").read_text().splitlines())
        self._configure()
        self.processes = {"asterisk": int(self.env["LAB_PID"])}
        if self.variant in ("tap", "both"):
            self._start_sidetone()
            self.processes["sidetone"] = self.sidetone.process.pid
        self.idle_bytes = sum(resident_bytes(pid) for pid in self.processes.values())
        self.phones = Phones(("127.0.0.1", int(self.env["LAB_SIP_PORT"])), f"peer-{self.variant}")
        self.phones.place(self.calls)
        self.targets = self.phones.targets()

    def finish(self):
        self.phones.hang_up()
        manifests = {Plain.name: None} if self.variant == "plain" else {}
        if self.variant in ("mix", "both"):
            until(self._all_written, "MixMonitor's files are not closed")
            heard = lambda call, way: self.lab / "heard" / f"{call}-{way}.wav"  # noqa: E731
            calls = [
                ([(2 * call, heard(call, "r"), 0), (2 * call + 1, heard(call, "t"), 0)], True)
                for call in range(self.calls)
            ]
            manifests[Mix.name if self.variant == "mix" else "both: MixMonitor"] = write_manifest(self.work / "manifest-mix", calls)
        if self.variant in ("tap", "both"):
            manifests[Tap.name if self.variant == "tap" else "both: Sidetone"] = write_manifest(self.work / "manifest-tap", self._sidetone_calls())
        return manifests

    def stop(self):
        if self.phones:
            self.phones.close()
        if self.sidetone:
            self.sidetone.stop()
        if self.started:
            self._lab("stop", "--dir", self.lab)

    def _lab(self, *arguments):
        done = subprocess.run([LAB, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"scripts/lab {arguments[0]}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _configure(self):
        etc = self.lab / "etc"
        rtp = (etc / "rtp.conf").read_text()
        rtp = re.sub(r"rtpstart=\d+", f"rtpstart={RTP[0]}", rtp)
        (etc / "rtp.conf").write_text(re.sub(r"rtpend=\d+", f"rtpend={RTP[1]}", rtp))
        with (etc / "extensions.conf").open("a") as dialplan:
            dialplan.write(f'#include "{EXTENSIONS}"\n')
        for command in ("module reload res_rtp_asterisk.so", "dialplan reload"):
            self._lab("cli", "--dir", self.lab, command)

    def _start_sidetone(self):
        self.http = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        settings = {
            "ari.url": self.env["LAB_ARI_URL"],
            "ari.user": self.env["LAB_ARI_USER"],
            "ari.password": self.env["LAB_ARI_PASSWORD"],
            "http.bind": self.http,
            "rtp.bind": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
            "node.data": self.work / "data",
            "speech.model": "off",
            "calls.max": max(1_000, self.calls),
        }
        command = [sidetone_binary(), "serve"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        self.sidetone = Child(command, self.work / "sidetone.log")
        until(self._is_ready, f"Sidetone is not ready, see {self.work / 'sidetone.log'}")

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.http}/ready", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _all_written(self):
        """Whether Asterisk has no recording open any more."""
        folder = f"/proc/{self.env['LAB_PID']}/fd"
        for descriptor in os.listdir(folder):
            try:
                opened = os.readlink(f"{folder}/{descriptor}")
            except FileNotFoundError:  # Closed meanwhile.
                continue
            if opened.startswith(str(self.lab / "heard")):
                return False
        return True

    def _sidetone_calls(self):
        recordings = {}

        def collect():
            for record in (self.work / "data").rglob("*.call.json"):
                call = json.loads(record.read_text())
                wav = record.parent / (record.name.removesuffix(".call.json") + ".wav")
                if wav.exists() and call.get("label"):
                    recordings[int(call["label"])] = wav
            return len(recordings) == self.calls

        until(collect, f"Sidetone's recordings are not complete, see {self.work / 'sidetone.log'}", 120)
        return [([(2 * n + leg, recordings[n], leg) for leg in (0, 1)], True) for n in range(self.calls)]


class Plain(OnAsterisk):
    variant, name = "plain", "Asterisk, unrecorded"


class Mix(OnAsterisk):
    variant, name = "mix", "Asterisk + MixMonitor"


class Tap(OnAsterisk):
    variant, name = "tap", "Asterisk + Sidetone"


class Both(OnAsterisk):
    variant, name = "both", "Asterisk + MixMonitor + Sidetone"
