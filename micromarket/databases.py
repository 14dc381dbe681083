"""Databases by their URL: connections, tables by name, and messages without secrets."""

from __future__ import annotations

import os
import re
from typing import Any

import ibis

from micromarket.config import expand_variables
from micromarket.errors import InputError, Problem


def connect(connection: str, shown_as: str, key: str) -> Any:
    """The Ibis backend of a connection URL; variables of the environment are filled in here and never shown."""
    try:
        url = expand_variables(connection)
    except ValueError as error:
        raise InputError([Problem(shown_as, str(error), column=key)]) from None
    # ``from None`` below: the driver's own error, which --debug would show too, may repeat the URL
    try:
        return ibis.connect(url)
    except ImportError:
        backend = connection.split(":")[0]
        package = "micromarket[postgres]" if backend.startswith("postgres") else f"ibis-framework[{backend}]"
        expected = f"the driver of {backend} to be installed (pip install '{package}')"
        raise InputError([Problem(shown_as, expected, column=key)]) from None
    except Exception as error:
        # the driver's message may repeat the URL, which may hold a password: only the error's type is shown
        expected = "a database that answers, at a URL such as postgres://user:password@host/database"
        raise InputError([Problem(shown_as, expected, column=key, value=type(error).__name__)]) from None


def without_secrets(text: str, connection: str) -> str:
    """``text`` (a driver's message) without what the environment gave the connection, and without any password.

    >>> without_secrets("no such host: postgres://me:pw@db/x", "postgres://me:pw@db/x")
    'no such host: postgres://…@db/x'
    """
    for name, default in re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}", connection):
        value = os.environ.get(name, default)
        if value:
            text = text.replace(value, f"${{{name}}}")
            for part in re.split(r"[/:@?&=;]+", value):
                text = text.replace(part, "…") if len(part) > 5 and part in text else text
    return re.sub(r"://[^@\s/]+@", "://…@", text)


def named_table(backend: Any, name: str) -> ibis.Table:
    """The table ``name``, ``schema.name`` or ``catalog.schema.name`` of a database, each part letter by letter."""
    *place, table = name.split(".")
    # as one string, Ibis quotes a schema; more levels it takes as a tuple
    return backend.table(table, database=tuple(place) if len(place) > 1 else "".join(place) or None)
