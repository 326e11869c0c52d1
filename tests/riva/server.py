"""A Riva by NVIDIA's own stubs (package nvidia-riva-client): what Sidetone sends is read by an implementation that is not ours, and answered
by it. Prints its port, then one line of JSON a stream (what it was asked for, and how much audio came), and one a text to speak.

    server.py "word word word"
"""

import json
import sys
import threading
from concurrent import futures

import grpc
from riva.client.proto import riva_asr_pb2 as asr
from riva.client.proto import riva_asr_pb2_grpc as service
from riva.client.proto import riva_audio_pb2 as audio
from riva.client.proto import riva_tts_pb2 as tts
from riva.client.proto import riva_tts_pb2_grpc as synthesis
from google.protobuf.json_format import MessageToDict

WORDS = sys.argv[1].split()


def result(seconds, is_final):
    """A word every quarter of a second from 0.3 s on, as far as heard."""
    times = [(w, 300 + 250 * i, 500 + 250 * i) for i, w in enumerate(WORDS)]
    heard = [t for t in times if t[2] <= seconds * 1000]
    words = [asr.WordInfo(word=w, start_time=a, end_time=b, confidence=-0.1) for w, a, b in heard]
    best = asr.SpeechRecognitionAlternative(transcript=" ".join(w for w, _, _ in heard) + " ", confidence=-0.5, words=words)
    return asr.StreamingRecognizeResponse(
        results=[
            asr.StreamingRecognitionResult(
                alternatives=[best],
                is_final=is_final,
                stability=0 if is_final else 0.5,
                channel_tag=1,
                audio_processed=seconds,
            )
        ]
    )


class Recognition(service.RivaSpeechRecognitionServicer):
    def StreamingRecognize(self, requests, context):
        first = next(requests)
        assert first.WhichOneof("streaming_request") == "streaming_config", first
        config = first.streaming_config.config
        assert config.encoding == audio.LINEAR_PCM, config
        heard = 0
        for request in requests:
            assert request.WhichOneof("streaming_request") == "audio_content", request
            # Whole samples.
            assert len(request.audio_content) % 2 == 0
            heard += len(request.audio_content) // 2
            yield result(heard / config.sample_rate_hertz, False)
        yield result(heard / config.sample_rate_hertz, True)
        told = {
            "config": MessageToDict(first.streaming_config, preserving_proto_field_name=True),
            "metadata": dict((k, v) for k, v in context.invocation_metadata()),
            "samples": heard,
        }
        print(json.dumps(told), flush=True)

    def GetRivaSpeechRecognitionConfig(self, request, context):
        response = asr.RivaSpeechRecognitionConfigResponse()
        model = response.model_config.add()
        model.model_name = "parakeet"
        model.parameters["language_code"] = "en-US"
        model.parameters["type"] = "online"
        return response


class Synthesis(synthesis.RivaSpeechSynthesisServicer):
    """Says a tenth of a second of a square wave a character."""

    def Synthesize(self, request, context):
        print(json.dumps(MessageToDict(request, preserving_proto_field_name=True)), flush=True)
        if request.voice_name == "nobody":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Voice nobody not found")
        if request.voice_name == "busy":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        assert request.encoding == audio.LINEAR_PCM, request
        period = b"\x00\x20" * 25 + b"\x00\xe0" * 25
        count = len(request.text) * request.sample_rate_hz // 10
        return tts.SynthesizeSpeechResponse(audio=(period * (count // 50 + 1))[: 2 * count])


server = grpc.server(futures.ThreadPoolExecutor(4))
service.add_RivaSpeechRecognitionServicer_to_server(Recognition(), server)
synthesis.add_RivaSpeechSynthesisServicer_to_server(Synthesis(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
# Until nobody needs it any more.
threading.Thread(target=lambda: (sys.stdin.read(), server.stop(0)), daemon=True).start()
server.wait_for_termination()
