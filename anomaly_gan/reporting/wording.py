"""Decisions in the words of those who look at pictures: good, defective, how many good ones score as high."""

NOT_PROMISED = (
    "Good pictures alone do not tell how many defects are missed. The promise is about good pictures that "
    "come like the held-out ones: with another camera, light or product, train anew."
)

NO_THRESHOLD = (
    "No good pictures were held out at the training, so there is no threshold, and no picture was called "
    "good or defective. Train with data.calibration_fraction=0.1 to have decisions."
)


def percent(share: float) -> str:
    """A share in [0, 1], such as "1 %" or "0.54 %"."""
    return f"{100 * share:.3g} %"


def looks(called: int, scored: int) -> str:
    """How many of the pictures look defective."""
    if scored == 1:
        return f"The picture looks {'defective' if called else 'good'}"
    one = called < 2
    return f"{called or 'None'} of {scored:,} pictures {'looks' if one else 'look'} defective"


def promise(rate: float, held_out: int) -> str:
    """What `held_out` good pictures promise of a threshold for the false positive rate `rate`, in (0, 1)."""
    return (
        f"At most {percent(rate)} of good pictures would be called so: the promise of {held_out:,} good "
        "pictures that were held out from learning."
    )


def promise_together(fdr: float) -> str:
    """What is promised where pictures are judged together."""
    return (
        f"They were judged together: on average, at most {percent(fdr)} of the pictures that are called "
        "defective are good ones."
    )


def as_high(p_value: float, held_out: int) -> str:
    """How many of the held-out good pictures score at least as high, by the p-value of a picture."""
    count = round(p_value * (held_out + 1)) - 1
    if count == 0:
        return f"none of {held_out:,} good pictures scores as high"
    return f"{count:,} of {held_out:,} good pictures {'scores' if count == 1 else 'score'} as high"
