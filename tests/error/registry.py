"""Malformed files by name: what damages a sound one, and the line that it must be refused with."""


def registry():
    """A list of (name, expect, function), and case(name, expect), which adds the function below it to that list."""
    cases = []

    def case(name, expect):
        def register(function):
            cases.append((name, expect, function))
            return function

        return register

    return cases, case
