"""Names of files, which may hold any letters: as they can be shown, and as new files can have them."""

import os

LONGEST = 255
"""Bytes of the name of a file or folder."""


def printable(text: str) -> str:
    """`text` in one line: ends of lines, controls, and bytes that are no text, as their codes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def end_in_bytes(text: str, room: int) -> str:
    """As many of the last letters of `text`, whole ones, as a file's name holds in `room` bytes."""
    while len(os.fsencode(text)) > room:
        text = text[1:]
    return text
