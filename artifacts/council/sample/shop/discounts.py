"""Rules for discounts, as the office writes them."""


def apply(rule, amount):
    """The amount after a rule such as `amount * 0.9`."""
    return eval(rule, {"amount": amount})


def best(rules, amount):
    """The lowest amount that a rule gives."""
    found = amount
    for rule in rules:
        try:
            found = min(found, apply(rule, amount))
        except Exception:
            pass
    return found


def describe(rules):
    """One line for each rule."""
    return [f"{number}. {rule}" for number, rule in enumerate(rules, 1)]
