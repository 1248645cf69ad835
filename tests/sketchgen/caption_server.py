"""A small OpenAI-compatible server on loopback, whose answers look at the picture, and whose faults are ordered."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {
    "red": (220, 40, 40), "green": (50, 160, 60), "blue": (50, 80, 200), "yellow": (230, 210, 60),
    "grey": (128, 128, 128), "white": (240, 240, 240), "black": (20, 20, 20), "brown": (130, 90, 50),
    "orange": (240, 150, 50), "purple": (140, 70, 160),
}  # fmt: skip
ASKED = re.compile(r"One object in it is an? (.+?), at (\[.*?\])")


@dataclass
class Asked:
    """One request as the server read it."""

    prompt: str
    image: Image.Image | None
    body: dict[str, Any] = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    @property
    def category(self) -> str:
        return ASKED.search(self.prompt)[1]  # type: ignore[index]

    @property
    def box(self) -> list[float]:
        return json.loads(ASKED.search(self.prompt)[2])  # type: ignore[index]


Reply = str | tuple[int, dict[str, str], bytes]
"""The text of an answer, or all of the HTTP response: status, headers, body."""


def describe(asked: Asked, **changes: Any) -> str:
    """A valid answer; its colour is what the middle of the box shows."""
    assert asked.image is not None
    x1, y1, x2, y2 = asked.box
    width, height = x2 - x1, y2 - y1
    part = asked.image.crop((x1 + width / 4, y1 + height / 4, x2 - width / 4, y2 - height / 4))
    mean = np.asarray(part.convert("RGB"), np.float64).reshape(-1, 3).mean(axis=0)
    colour = min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))
    answer = {
        "object": asked.category,
        "description": f"A {colour} {asked.category} with a dark outline",
        "relations": ["on a patterned ground"],
        "box": asked.box,
    }
    return json.dumps(answer | changes)


def polish(asked: Asked) -> str:
    """A refiner's valid answer: the description of the prompt, in other words."""
    answer = json.loads(re.search(r"^\{.*\}$", asked.prompt, re.MULTILINE)[0])  # type: ignore[index]
    return json.dumps(answer | {"description": answer["description"].replace(" with ", " that has ") + "."})


def status(code: int, message: str = "no", **headers: str) -> Reply:
    """An error as such servers word it."""
    return code, headers, json.dumps({"error": {"message": message, "type": "x"}}).encode()


class CaptionServer:
    """Answers with `reply`, which may be changed while it runs."""

    def __init__(self, reply: Callable[[Asked], Reply], models: tuple[str, ...] = ("eyes", "pen")) -> None:
        self.reply = reply
        self.models: tuple[str, ...] | Reply = models
        self.asked: list[Asked] = []
        self.at_once = self.most_at_once = 0
        self.lock = Lock()
        self.times: Counter[str] = Counter()

    def nth(self, asked: Asked) -> int:
        """How often this prompt has been asked before."""
        with self.lock:
            self.times[asked.prompt] += 1
            return self.times[asked.prompt] - 1

    def take(self, raw: bytes, headers: dict[str, str]) -> Reply:
        body = json.loads(raw)
        (message,) = body["messages"]
        content = message["content"]
        image = None
        if isinstance(content, list):
            url = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
            image = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))
            content = next(part["text"] for part in content if part["type"] == "text")
        asked = Asked(content, image, body, headers)
        with self.lock:
            self.asked.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.reply(asked)
        finally:
            with self.lock:
                self.at_once -= 1


def _completion(text: str) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "eyes", "choices": [choice]}
    return json.dumps(whole).encode()


@contextmanager
def serving(reply: Callable[[Asked], Reply] = describe, port: int = 0) -> Iterator[tuple[CaptionServer, str]]:
    """The server and its URL, for as long as the block lasts."""
    state = CaptionServer(reply)
    open_now: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: else each answer waits 40 ms for an acknowledgement

        def setup(self) -> None:
            super().setup()
            open_now.append(self.connection)

        def do_GET(self) -> None:
            if isinstance(state.models, tuple) and all(isinstance(name, str) for name in state.models):
                models = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in state.models]
                self._send(200, {}, json.dumps({"object": "list", "data": models}).encode())
            else:
                self._send(*state.models)  # type: ignore[misc]

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            reply = state.take(raw, {name.lower(): value for name, value in self.headers.items()})
            self._send(*((200, {}, _completion(reply)) if isinstance(reply, str) else reply))

        def _send(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            for name, value in ({"content-type": "application/json"} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that had no more patience is no error here."""

    server = Server(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for connection in open_now:  # a server that is gone holds no line
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def slow(seconds: float) -> None:
    """As long as a model that hangs."""
    time.sleep(seconds)
