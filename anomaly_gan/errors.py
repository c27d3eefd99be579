"""The one exception a user is meant to see, and what memory that does not suffice is told by."""

import re


class UserError(Exception):
    """Input that cannot be used; the message is one line that says what is wrong and what to do.

    Commands print it without a traceback and exit with code 2.
    """


def nearest(word: str, choices: "list[str] | tuple[str, ...]") -> str:
    """The end of a message about a misspelt `word`: its nearest valid spellings, else all of them."""
    from difflib import get_close_matches

    matches = get_close_matches(str(word), choices, n=3, cutoff=0.5)
    if matches:
        return f"did you mean {' or '.join(matches)}?"
    return f"valid: {', '.join(choices)}"


def probability(name: str, given: object) -> float:
    """The setting `name`, where it is a number above 0 and below 1.

    Raises:
        UserError: it is none.
    """
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given < 1
        or 1 / given == float("inf")
    ):
        raise UserError(f"{name}={given}: give a number above 0 and below 1")
    return float(given)


def is_of_memory(error: Exception) -> bool:
    """Whether memory, here or of the device, did not suffice: torch has no one exception for it."""
    words = "out of memory|t allocate memory|overflowed"
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and re.search(words, " ".join(str(error).split())) is not None
    )
