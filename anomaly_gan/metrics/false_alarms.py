"""How many false alarms to expect of a threshold from held-out images."""


def expected_rates(
    held_out: int, allowed: int, tested: int, probability: float = 0.95
) -> tuple[float, float]:
    """Between which two rates of false alarms the one observed lies with `probability` at least.

    Of `tested` normal images, exchangeable with the `held_out` ones, the number above the threshold follows
    the beta-binomial law BetaBin(tested, allowed, held_out + 1 - allowed): binomial with a rate that is
    itself Beta, for the threshold hangs on which images were held out. Exact where no scores are equal;
    equal ones lower it.

    Args:
        held_out: n, images that the threshold comes from.
        allowed: j = floor(rate * (n + 1)); the threshold is the (n + 1 - j)-th smallest of their scores.
        tested: normal images tested.
        probability: of the interval, the tails alike.
    """
    from scipy.stats import betabinom  # takes half a second, which `predict` need not wait

    law = betabinom(tested, allowed, held_out + 1 - allowed)
    tail = (1 - probability) / 2
    return float(law.ppf(tail)) / tested, float(law.ppf(1 - tail)) / tested
