"""What Schemathesis cannot know of HTTP, or of names that are used once."""

import itertools

import schemathesis

NAMES = itertools.count(1)


@schemathesis.hook
def filter_case(context, case):
    """A header that nobody knows is no fault: HTTP has everybody pass it over."""
    return "x-schemathesis-unknown-property" not in {name.lower() for name in case.headers or {}}


@schemathesis.hook
def before_call(context, case, kwargs):
    """An idempotency key names one request: a second one with another body is refused, as it should be."""
    for name in list(case.headers or {}):
        key = case.headers[name]
        good = isinstance(key, str) and 1 <= len(key) <= 128 and all("!" <= letter <= "~" for letter in key)
        if name.lower() == "idempotency-key" and good:
            case.headers[name] = f"{key[:100]}-{next(NAMES)}"
