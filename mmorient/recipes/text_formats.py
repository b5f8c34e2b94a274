"""How the text files of tables are written: encoding and delimiter, as a recipe names them."""

UTF8 = "utf-8"


def check_encoding(encoding: str) -> None:
    """Refuse what is no text encoding.

    Raises:
        ValueError: Names it, and some that are.
    """
    try:
        "a".encode(encoding)
    except (LookupError, ValueError, TypeError):
        raise ValueError(
            f"`encoding` is {encoding!r}: give a text encoding that Python knows, such as utf-8, utf-16, "
            "cp1252 (Windows) or latin-1."
        ) from None


def check_delimiter(delimiter: str | None) -> None:
    """Refuse what cannot stand between cells.

    Raises:
        ValueError: Names it, and what can.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        raise ValueError(
            f"`delimiter` is {delimiter!r}: give one character that is no quote or line break, such as ';' "
            "(a tab is \"\\t\" in YAML and $'\\t' in a shell)."
        )
