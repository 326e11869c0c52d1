"""OpenAI's own client against /v1/audio/speech: URL KEY."""

import io
import sys
import wave

import openai

url, key = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
create = client.audio.speech.create
TEXT = "Hello, how may I help you?"


def seconds(data):
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnchannels() == 1 and file.getsampwidth() == 2
        return file.getnframes() / file.getframerate()


spoken = seconds(create(model="tts-1", voice="alloy", input=TEXT, response_format="wav").read())
assert 1 < spoken < 5, spoken
pcm = create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm").read()
assert abs(len(pcm) / 2 / 24_000 - spoken) < 0.01
assert create(model="tts-1", voice="alloy", input=TEXT, response_format="opus").read().startswith(b"OggS")
slow = seconds(create(model="tts-1", voice="en-us", input=TEXT, response_format="wav", speed=0.5).read())
assert slow > 1.5 * spoken, (slow, spoken)
with client.audio.speech.with_streaming_response.create(
    model="tts-1", voice="alloy", input=TEXT, response_format="wav"
) as response:
    assert response.headers["content-type"] == "audio/wav"
    assert seconds(response.read()) == spoken


def refused(param, **asked):
    try:
        create(**{"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "wav", **asked})
    except openai.BadRequestError as error:
        assert error.param == param, error.body
        return
    raise AssertionError(f"{asked} was taken")


refused("response_format", response_format="mp3")
refused("input", input="  ")
refused("input", input="word " * 2_000)
refused("voice", voice="nobody")
refused("voice", voice="../../etc/passwd")
refused("speed", speed=9)
print("all as expected")
