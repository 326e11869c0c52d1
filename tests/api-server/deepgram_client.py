"""Deepgram's own client against /v1/listen: HOST:PORT KEY FILE, 16-bit stereo at 8 kHz, "hello world" left, then "goodbye" right."""

import asyncio
import sys
import threading
import time

from deepgram import AsyncDeepgramClient, DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Metadata, ListenV1Results, ListenV1SpeechStarted
from pydantic import TypeAdapter
from websockets.exceptions import InvalidStatus

address, key, path = sys.argv[1:]
http, ws = f"http://{address}", f"ws://{address}"
environment = DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
client = DeepgramClient(api_key=key, environment=environment)
audio = open(path, "rb").read()
options = dict(
    model="nova-3",
    encoding="linear16",
    sample_rate=8000,
    channels=2,
    multichannel=True,
    interim_results=True,
    smart_format=True,
    vad_events=True,
    endpointing=300,
    utterance_end_ms=1000,
    keyterm=["hello", "good bye"],
    tag=["test"],
)


def pieces():
    for begin in range(0, len(audio), 3201):
        yield audio[begin : begin + 3201]


def check(messages, interim):
    for message in messages:
        # What the client's own types ask for, and not only what it lets pass.
        TypeAdapter(type(message)).validate_python(message.model_dump())
    results = [message for message in messages if isinstance(message, ListenV1Results)]
    for channel, text in enumerate(["hello world", "goodbye"]):
        finals = [r for r in results if r.is_final and r.channel_index == [channel, 2]]
        words = [word.word for r in finals for word in r.channel.alternatives[0].words]
        assert " ".join(words) == text, (channel, finals)
        assert any(r.speech_final for r in finals), finals
    assert not interim or any(not r.is_final for r in results), results
    assert any(isinstance(message, ListenV1SpeechStarted) for message in messages)
    metadata = messages[-1]
    assert isinstance(metadata, ListenV1Metadata) and metadata.channels == 2, metadata
    assert metadata.request_id == results[0].metadata.request_id
    assert abs(metadata.duration - len(audio) / 4 / 8000) < 0.01, metadata


with client.listen.v1.connect(**options) as socket:
    messages, failed = [], []
    socket.on(EventType.MESSAGE, messages.append)
    socket.on(EventType.ERROR, failed.append)
    listening = threading.Thread(target=socket.start_listening)
    listening.start()
    for piece in pieces():
        socket.send_media(piece)
        # As it was spoken.
        time.sleep(len(piece) / 4 / 8000)
    socket.send_keep_alive()
    socket.send_finalize()
    socket.send_close_stream()
    listening.join(30)
    assert not listening.is_alive() and not failed, failed
    assert sum(bool(getattr(message, "from_finalize", False)) for message in messages) == 2
    check(messages, interim=True)


async def again():
    asynchronous = AsyncDeepgramClient(api_key=key, environment=environment)
    async with asynchronous.listen.v1.connect(**options) as socket:
        for piece in pieces():
            await socket.send_media(piece)
        await socket.send_close_stream()
        check([message async for message in socket], interim=False)


asyncio.run(again())


def refused(status, client=client, **asked):
    try:
        with client.listen.v1.connect(**{**options, **asked}):
            pass
    except (ApiError, InvalidStatus) as error:
        # Which of them depends on the release of websockets.
        got = error.status_code if isinstance(error, ApiError) else error.response.status_code
        assert got == status, error
        return
    raise AssertionError(f"{asked} was taken")


refused(400, encoding="flac")
refused(400, diarize=True)
refused(401, client=DeepgramClient(api_key="st_acme_another", environment=environment))
print("all as expected")
