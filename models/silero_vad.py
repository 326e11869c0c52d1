#!/usr/bin/env python3
"""Makes silero-vad-16k.f32, the voice detector's weights, out of the PyPI package silero-vad 6.2.3.

    pip download --no-deps -d . silero-vad==6.2.3
    models/silero_vad.py silero_vad-6.2.3-*.whl models/silero-vad-16k.f32

Nothing is computed: tensors are put in the order in which src/speech/vad/silero.rs reads them, little-endian, without the spectrum's
(a Hann window and a Fourier transform, which needs no table) and without the taps of the last two convolutions that never meet
anything but padding.
"""

import array
import hashlib
import math
import sys
import zipfile

SOURCE = "silero_vad/data/silero_vad_16k_op15.onnx"
SHA256 = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"


def fields(message):
    """(number, value) of each field of a message in protocol buffers' wire format; lengths are views."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            yield number, varint()
        elif kind == 2:
            length = varint()
            yield number, message[at:at + length]
            at += length
        else:
            length = {1: 8, 5: 4}[kind]
            yield number, message[at:at + length]
            at += length


def initializers(model):
    """{name: shape}, {name: numbers} of an ONNX model's initialisers, which have to be of 32-bit floats in raw bytes."""
    shapes, values = {}, {}
    # ModelProto.graph is 7; GraphProto.initializer is 5; TensorProto: dims 1, data_type 2, name 8, raw_data 9.
    graph = next(value for number, value in fields(memoryview(model)) if number == 7)
    for number, tensor in fields(graph):
        if number != 5:
            continue
        found = list(fields(tensor))
        shape = [value for number, value in found if number == 1]
        rest = {number: value for number, value in found if number != 1}
        name = bytes(rest[8]).decode()
        numbers = array.array("f", bytes(rest[9]))
        if rest[2] != 1 or len(numbers) != math.prod(shape):
            sys.exit(f"{name}: not {shape} floats")
        shapes[name], values[name] = shape, numbers
    return shapes, values


def main():
    data = zipfile.ZipFile(sys.argv[1]).read(SOURCE)
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        sys.exit(f"{sys.argv[1]}: {SOURCE} has SHA-256 {found}, not {SHA256}: take silero-vad 6.2.3")
    shapes, values = initializers(data)

    def tensor(name):
        return values["model." + name]

    def taps(name, wanted):
        """[output][input][tap], of which only the wanted taps."""
        outputs, inputs, count = shapes["model." + name]
        all_taps = tensor(name)
        return array.array("f", (all_taps[(o * inputs + i) * count + t]
                                 for o in range(outputs) for i in range(inputs) for t in wanted))

    conv = "encoder.{}.reparam_conv.{}"
    parts = []
    for layer, wanted in enumerate([(0, 1, 2), (0, 1, 2), (1, 2), (1,)]):
        parts += [taps(conv.format(layer, "weight"), wanted), tensor(conv.format(layer, "bias"))]
    parts += [tensor("decoder.rnn." + name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    parts += [tensor("decoder.decoder.2.weight"), tensor("decoder.decoder.2.bias")]
    whole = array.array("f")
    for part in parts:
        whole.extend(part)
    if sys.byteorder != "little":
        whole.byteswap()
    with open(sys.argv[2], "wb") as out:
        out.write(whole.tobytes())
    print(f"{len(whole)} numbers, SHA-256 {hashlib.sha256(whole.tobytes()).hexdigest()}")


if __name__ == "__main__":
    main()
