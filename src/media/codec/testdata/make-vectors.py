#!/usr/bin/env python3
"""Makes the vectors in this folder anew. usage: make-vectors.py PROMPT.wav (a speech prompt, 8 kHz mono)

Needs sox, ffmpeg (with libopus) and Debian's libspandsp2 and libgsm1, which it calls directly. All are independent of
this crate. README.md says which file is what.
"""
import ctypes as c
import random
import struct
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
spandsp, libgsm = c.CDLL("libspandsp.so.2"), c.CDLL("libgsm.so.1")
for f in (spandsp.g722_encode_init, spandsp.g722_decode_init, libgsm.gsm_create):
    f.restype = c.c_void_p


def run(*words, stdin=None):
    return subprocess.run(words, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def words(raw):
    return (c.c_int16 * (len(raw) // 2)).from_buffer_copy(raw)


def signal(prompt, rate):
    """1.25 s: speech, a full-scale sweep, full-scale noise, silence, a full-scale square wave."""
    raw = ["-t", "raw", "-r", str(rate), "-e", "signed", "-b", "16", "-c", "1", "-"]
    speech = run("sox", "-D", prompt, *raw, "trim", "0.2", "0.6", "rate", str(rate))
    sweep = run("sox", "-D", "-n", *raw, "synth", "0.25", "sine", f"20:{rate // 2 - 50}", "vol", "0.999")
    noise = random.Random(722)
    noise = struct.pack(f"<{rate // 10}h", *(noise.randint(-32768, 32767) for _ in range(rate // 10)))
    square = struct.pack(f"<{rate // 5}h", *((32767 if i // 23 % 2 else -32768) for i in range(rate // 5)))
    all_ = speech + sweep + noise + bytes(rate // 10 * 2) + square
    return all_[: rate * 5 // 4 * 2]


def g722(raw):
    pcm, out = words(raw), (c.c_uint8 * (len(raw) // 4))()
    state = c.c_void_p(spandsp.g722_encode_init(None, 64000, 0))
    assert spandsp.g722_encode(state, out, pcm, len(pcm)) == len(out)
    return bytes(out)


def g722_decoded(code):
    out = (c.c_int16 * (2 * len(code)))()
    state = c.c_void_p(spandsp.g722_decode_init(None, 64000, 0))
    assert spandsp.g722_decode(state, out, code, len(code)) == len(out)
    return bytes(out)


def ffmpeg_g722(code):
    return run("ffmpeg", "-v", "error", "-f", "g722", "-i", "-", "-f", "s16le", "-", stdin=code)


def gsm(raw, wav49=0):
    state, out = c.c_void_p(libgsm.gsm_create()), b""
    libgsm.gsm_option(state, 4, c.byref(c.c_int(wav49)))
    pcm = words(raw)
    for n in range(len(pcm) // 160):
        frame = (c.c_uint8 * 34)()
        libgsm.gsm_encode(state, c.byref(pcm, n * 320), frame)
        out += bytes(frame)[: (32 + n % 2) if wav49 else 33]
    return out


def gsm_decoded(code):
    state, out = c.c_void_p(libgsm.gsm_create()), b""
    for n in range(0, len(code), 33):
        pcm = (c.c_int16 * 160)()
        assert libgsm.gsm_decode(state, code[n : n + 33], pcm) == 0
        out += bytes(pcm)
    return out


def opus_packets(ogg):
    """The packets of an Ogg stream (RFC 3533), each behind its length in two bytes; without the two headers."""
    at, packets, open_ = 0, [], b""
    while at < len(ogg):
        lacing = ogg[at + 27 : at + 27 + ogg[at + 26]]
        at += 27 + len(lacing)
        for size in lacing:
            open_ += ogg[at : at + size]
            at += size
            if size < 255:
                packets.append(open_)
                open_ = b""
    return packets[2:]


def main():
    prompt = sys.argv[1]
    for name, rate in (("signal-16k.raw", 16000), ("signal-8k.raw", 8000)):
        (HERE / name).write_bytes(signal(prompt, rate))
    wide, narrow = (HERE / "signal-16k.raw").read_bytes(), (HERE / "signal-8k.raw").read_bytes()

    code = g722(wide)
    chance = random.Random(64)
    sweep = bytes(range(256)) * 2 + bytes(chance.randrange(256) for _ in range(1536))
    for name, bytes_ in (("signal.g722", code), ("codes.g722", sweep)):
        (HERE / name).write_bytes(bytes_)
        (HERE / f"{name}.raw").write_bytes(g722_decoded(bytes_))
        (HERE / f"{name}.ffmpeg.raw").write_bytes(ffmpeg_g722(bytes_))

    usable = narrow[: len(narrow) // 640 * 640]
    code = gsm(usable)
    sox = ["-t", "raw", "-r", "8000", "-e", "signed", "-b", "16", "-c", "1", "-"]
    assert run("sox", *sox, "-t", "gsm", "-", stdin=usable) == code, "sox and libgsm agree"
    chance = random.Random(610)
    codes = b"".join(bytes([0xD0 | chance.randrange(16)]) + chance.randbytes(32) for _ in range(40))
    for name, bytes_ in (("signal.gsm", code), ("codes.gsm", codes)):
        (HERE / name).write_bytes(bytes_)
        (HERE / f"{name}.raw").write_bytes(gsm_decoded(bytes_))
    (HERE / "signal.wav49").write_bytes(gsm(usable, 1))

    ogg = run(
        *"ffmpeg -v error -f s16le -ar 16000 -i - -c:a libopus -b:a 24k -application voip -f ogg -".split(),
        stdin=wide[:38400],
    )
    packets = opus_packets(ogg)
    (HERE / "speech.opus-packets").write_bytes(b"".join(struct.pack(">H", len(p)) + p for p in packets))
    # FFmpeg's own decoder ("opus"), not libopus. It drops the encoder's delay, which the header tells.
    pcm = run(*"ffmpeg -v error -c:a opus -f ogg -i - -f s16le -".split(), stdin=ogg)
    full = ["-t", "raw", "-r", "48000", "-e", "signed", "-b", "16", "-c", "1", "-"]
    wide_again = [*full[:3], "16000", *full[4:]]
    (HERE / "speech.opus.ffmpeg.raw").write_bytes(run("sox", "-D", *full, *wide_again, "rate", "-v", stdin=pcm))


main()
