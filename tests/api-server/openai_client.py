"""OpenAI's own client against /v1/audio/transcriptions: URL KEY FILE, a stereo file that says "hello world", "goodbye"."""

import io
import sys

import openai

url, key, path = sys.argv[1:]
TEXT = "hello world goodbye"
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
create = client.audio.transcriptions.create


def opened():
    return open(path, "rb")


with opened() as file:
    assert create(model="whisper-1", file=file).text == TEXT

with opened() as file:
    assert create(model="whisper-1", file=file, response_format="text", language="en").strip() == TEXT

with opened() as file:
    srt = create(model="whisper-1", file=file, response_format="srt", prompt="hello", temperature=0)
    assert srt.startswith("1\n00:00:0"), srt

with opened() as file:
    vtt = create(model="whisper-1", file=file, response_format="vtt")
    assert vtt.startswith("WEBVTT"), vtt

with opened() as file:
    verbose = create(
        model="whisper-1", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    # What the client's own types ask for, and not only what it lets pass.
    type(verbose).model_validate(verbose.model_dump(warnings="error"))
    assert verbose.text == TEXT and verbose.duration > 1 and verbose.language == "en"
    assert [word.word for word in verbose.words] == TEXT.split()
    assert [segment.text for segment in verbose.segments] == ["hello world", "goodbye"]
    assert [segment.speaker for segment in verbose.segments] == ["caller", "callee"]
    assert verbose.segments[0].end <= verbose.segments[1].start

with opened() as file:
    text = ""
    for event in create(model="gpt-4o-transcribe", file=file, stream=True):
        if event.type == "transcript.text.delta":
            text += event.delta
        else:
            assert event.type == "transcript.text.done", event
            assert event.text == text == TEXT, event


def refused(kind, param, **asked):
    try:
        with opened() as file:
            create(**{"model": "whisper-1", "file": file, **asked})
    except kind as error:
        assert error.param == param, error.body
        return error
    raise AssertionError(f"{asked} was taken")


refused(openai.NotFoundError, "model", model="gpt-5")
refused(openai.BadRequestError, "language", language="xx")
refused(openai.BadRequestError, "file", file=("a.wav", b"no audio"))
refused(openai.BadRequestError, "file", file=("a.wav", b""))
large = refused(openai.APIStatusError, "file", file=("a.wav", io.BytesIO(bytes(5 << 20))))
assert large.status_code == 413 and large.code == "file_too_large", large

try:
    stranger = openai.OpenAI(base_url=url, api_key="st_acme_another", max_retries=0)
    with opened() as file:
        stranger.audio.transcriptions.create(model="whisper-1", file=file)
    raise AssertionError("a stranger was let in")
except openai.AuthenticationError as error:
    assert error.code == "invalid_api_key", error.body

print("all as expected")
