"""The one exception a user is meant to see."""


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
