"""The lists at the top of a JSON file, item by item: annotation files have gigabytes, an item has bytes."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 4 * 1024**2
"""Bytes read at once."""
LONGEST = 64 * 1024**2
"""Characters of one item at most; what is longer is a broken file, and is not read to its end."""
GOES_ON = ("", *".eE+-0123456789")
"""After what may be the end of a number, or only of the window."""
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def items(file: IO[bytes], kinds: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(key, item) of every list at the top of the file, in its order; other values are passed over.

    file: binary. kinds: filled with the Python type of the value of each key as it is met, e.g. {"images": "list"};
    {"": "list"} for a file that is no object. NaN and Infinity are taken, as Python's json takes them.
    Raises ValueError where the text is no JSON, with the place.
    """
    text = _Text(file)
    if text.next() != "{":
        kinds[""] = type(text.value()).__name__
        text.end()
        return
    text.skip(1)
    while text.next() != "}":
        key = text.value()
        if not isinstance(key, str):
            raise text.error("a name in quotes was expected")
        text.expect(":")
        if text.next() == "[":
            kinds[key] = "list"
            yield from ((key, item) for item in _elements(text))
        else:
            kinds[key] = type(text.value()).__name__
        if text.next() == ",":
            text.skip(1)
            if text.next() == "}":
                raise text.error("a name was expected after the comma")
        elif text.next() != "}":
            raise text.error("a comma or } was expected")
    text.skip(1)
    text.end()


def _elements(text: _Text) -> Iterator[Any]:
    text.expect("[")
    if text.next() == "]":
        text.skip(1)
        return
    while True:
        yield text.value()
        mark = text.next()
        if mark not in (",", "]"):
            raise text.error("a comma or ] was expected")
        text.skip(1)
        if mark == "]":
            return


class _Text:
    """A window on the text of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._before, self._ended = "", 0, 0, False

    def next(self) -> str:
        """The next character that is no space, not consumed; "" at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._fill()

    def skip(self, count: int) -> None:
        """Consume characters that `next` showed."""
        self._at += count

    def expect(self, mark: str) -> None:
        """Consume this character, or raise."""
        if self.next() != mark:
            raise self.error(f"{mark} was expected")
        self._at += 1

    def value(self) -> Any:
        """Consume one whole value."""
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:  # cut off by the window, or broken
                if self._ended or len(self._text) - self._at > LONGEST:
                    raise self.error(error.msg, error.pos) from None
            except RecursionError:
                raise self.error("brackets are nested too deep") from None
            except ValueError as error:  # a number of more digits than Python reads
                raise self.error(str(error)) from None
            else:
                if self._ended or self._text[end : end + 1] not in GOES_ON:
                    self._at = end
                    return value
            self._fill()

    def end(self) -> None:
        """Nothing but space follows, or raise."""
        if self.next():
            raise self.error("the file goes on after its end")

    def error(self, what: str, at: int = -1) -> ValueError:
        """What is wrong, and where."""
        place = self._before + (self._at if at < 0 else at)
        return ValueError(f"not valid JSON ({what}, at character {place:,}): is the download complete?")

    def _fill(self) -> None:
        data = self._file.read(max(CHUNK, len(self._text) - self._at))  # doubles the window of a long value
        self._ended = not data
        self._before += self._at
        self._text = self._text[self._at :] + self._decode.decode(data, final=self._ended)
        self._at = 0
