"""What the examples of vosk-server send: URL FILE, a WAV file that says "hello world", then "goodbye"."""

import asyncio
import json
import sys
import wave

import websockets

url, path = sys.argv[1:]


async def run(config, seconds):
    """As test.py does: a message, its answer, and so on."""
    answers = []
    async with websockets.connect(url) as socket:
        with wave.open(path, "rb") as file:
            await socket.send(json.dumps({"config": {"sample_rate": file.getframerate(), **config}}))
            while data := file.readframes(int(file.getframerate() * seconds)):
                await socket.send(data)
                answers.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        answers.append(json.loads(await socket.recv()))
        try:
            await socket.recv()
            raise AssertionError("nothing comes after the last final")
        except websockets.ConnectionClosedOK:
            return answers


def texts(answers):
    return [answer["text"] for answer in answers if answer.get("text")]


plain = asyncio.run(run({}, 0.2))
assert texts(plain) == ["hello world", "goodbye"], plain
words = [word for answer in plain for word in answer.get("result", [])]
assert [word["word"] for word in words] == ["hello", "world", "goodbye"], plain
assert all(0 <= word["conf"] <= 1 and word["start"] <= word["end"] for word in words), words
assert "text" in plain[-1], plain

# test_words.py, and test_alternatives.py.
short = asyncio.run(run({"phrase_list": ["hello world", "[unk]"], "words": 0}, 0.5))
assert texts(short) == ["hello world", "goodbye"] and not any("result" in answer for answer in short), short
several = asyncio.run(run({"max_alternatives": 20}, 10))
assert [len(answer["alternatives"]) for answer in several if "alternatives" in answer] == [1, 1], several
assert "hello world" in several[0]["alternatives"][0]["text"], several
print("all as expected")
