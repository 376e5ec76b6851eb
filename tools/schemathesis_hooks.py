"""Hooks for rules of HTTP and of idempotency keys that the document cannot express."""

import itertools

import schemathesis

NAMES = itertools.count(1)


@schemathesis.hook
def filter_case(context, case):
    """Skips requests with an unknown header: HTTP servers must ignore it."""
    return "x-schemathesis-unknown-property" not in {name.lower() for name in case.headers or {}}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes each idempotency key unique: a reused key with another body is refused."""
    for name in list(case.headers or {}):
        key = case.headers[name]
        valid = isinstance(key, str) and 1 <= len(key) <= 128 and all("!" <= letter <= "~" for letter in key)
        if name.lower() == "idempotency-key" and valid:
            case.headers[name] = f"{key[:100]}-{next(NAMES)}"
