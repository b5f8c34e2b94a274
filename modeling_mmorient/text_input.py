"""Raw texts to token ids: links, user names, watermarks and control characters are removed first."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

DEFAULT_TEXT_LENGTH = 128
DEFAULT_JOINT_LENGTH = 77
# Tokenizers say "no limit" with a number of thirty digits.
_NO_LIMIT = 1_000_000

#: Sites that stamp their name on memes, with the addresses they stamp.
WATERMARK_SITES = (
    "imgflip.com",
    "quickmeme.com",
    "memegenerator.net",
    "memecenter.com",
    "makeameme.org",
    "memecrunch.com",
    "memeshappen.com",
    "mematic.net",
    "diylol.com",
    "memebase.com",
    "memeful.com",
    "mememaker.net",
    "memebucket.com",
    "memecreator.com",
    "livememe.com",
    "memedump.com",
    "starecat.com",
    "frabz.com",
    "roflrazzi.com",
    "despicablememinions.org",
    "icanhascheezburger.com",
    "themetapicture.com",
    "funnybeing.com",
    "someecards.com",
    "cleanmemes.com",
    "memes.com",
    "ifunny.co",
    "9gag.com",
)

# Scripts whose spelling needs joiners: Arabic, Syriac and kin, Indic, Myanmar, Khmer, Mongolian.
_JOINING_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af\ua8e0-\ua8ff"
_EMOJI = "\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_JOINERS = re.compile(
    f"(?<=[{_JOINING_SCRIPTS}])[\u200c\u200d]|(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])|([\u200c\u200d])"
)
# Tag characters spell the flags of England and its kin; anywhere else they are invisible letters.
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]{1,16}\U000e007f)|[\U000e0000-\U000e007f]")
# Soft hyphen, zero-width space, directional marks and isolates, word joiner, byte-order mark ...
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
# Control characters that are no spaces, and halves of surrogate pairs, which no encoding can hold.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
# What \s matches, and blanks that count as symbols: the empty Braille cell and the Hangul fillers.
_SPACES = re.compile("[\\s\u2800\u3164\uffa0]+")
# Unicode's stream-safe limit. Normalizing takes time quadratic in the length of a run of marks.
_MAX_MARKS = 30

# An address ends before a character that it cannot hold, and before the sentence's punctuation.
_URL_CHAR = r"[a-z0-9\u00c0-\u05ff\-._~:/?#\[\]@!$&'()*+,;=%]"
_URL_END = r"[a-z0-9\u00c0-\u05ff/=&#%_~+\-]"
_URL = re.compile(
    rf"(?:https?://|(?<![\w@.])www\.(?=[a-z0-9\u00c0-\u05ff])){_URL_CHAR}*{_URL_END}",
    re.IGNORECASE,
)
_SITE = re.compile(
    r"(?<![\w@-])(?:www\s?\.\s?)?(?:{})(?![\w@-])(?:/{}*{})?".format(
        "|".join(re.escape(site).replace(r"\.", r"\s?\.\s?") for site in WATERMARK_SITES),
        _URL_CHAR,
        _URL_END,
    ),
    re.IGNORECASE,
)
# Not a time ("@5pm"), and neither "@ll" nor "@ss...", which are spellings, not people.
_USER = re.compile(
    r"(?<![\w@.])@(?!ss|\d+(?:[ap]m)?\b)[a-z0-9_]{3,}(?:\.[a-z0-9_]+)*(?:@\w+(?:[.-]+\w+)*)*",
    re.IGNORECASE,
)


def read_text(value: Any, clean: bool) -> str:
    """One text, empty where it is missing or blank.

    Args:
        value: A string, or None where the text is missing.
        clean: Apply `clean_text`.

    Raises:
        ValueError: `value` is something else, or holds halves of surrogate pairs.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"text is a string, or None where it is missing, got {value!r:.100}")
    text = clean_text(value) if clean else value
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode ({error}); set clean_text=True") from error
    return "" if text.isspace() else text


def checked_length(name: str, length: Any, tokenizer: Any, default: int | None) -> int | None:
    """The number of tokens, special ones included, after which a text is cut off.

    Args:
        name: Name of the option, for errors.
        length: The option's value; None takes the default.
        tokenizer: Tokenizer whose limit holds; None: there is nothing to check against.
        default: Length without an option, cut to the tokenizer's limit. None: the tokenizer's
            limit, or 77 (CLIP's) where it has none.

    Raises:
        ValueError: `length` is no integer, leaves no room beside the special tokens, or exceeds the
            tokenizer's limit; or the tokenizer has no padding token.
    """
    if tokenizer is None:
        return length
    if tokenizer.pad_token is None:
        raise ValueError(f"{type(tokenizer).__name__} has no padding token; set its pad_token")
    limit = tokenizer.model_max_length
    if length is None:
        default = default or (DEFAULT_JOINT_LENGTH if limit > _NO_LIMIT else limit)
        return min(default, limit)
    special = tokenizer.num_special_tokens_to_add()
    is_integer = isinstance(length, int) and not isinstance(length, bool)
    if not is_integer or not special < length <= limit:
        raise ValueError(
            f"{name} is an integer above {special} (the special tokens) and at most {limit} (the "
            f"tokenizer's limit), got {length!r}"
        )
    return length


def tokenize(tokenizer: Any, texts: list[str], options: dict[str, Any]) -> Any:
    """Tokenize; every row has at least one token, also that of an empty text.

    Args:
        tokenizer: Any tokenizer of transformers.
        texts: One text per row.
        options: Keywords of the tokenizer's call.
    """
    # Where no special tokens are added, an empty text would be a row that is masked out wholly.
    add_special_tokens = options.get("add_special_tokens", True)
    is_bare = not tokenizer("", add_special_tokens=add_special_tokens)["input_ids"]
    filler = (tokenizer.eos_token or tokenizer.pad_token) if is_bare else ""
    return tokenizer([text or filler for text in texts], **options)


def clean_text(text: str) -> str:
    """Clean one text; what remains is otherwise as it was written.

    Removed:
        - Links: `http://...`, `https://...` and `www....`, up to the first character that cannot
          stand in an address; punctuation at their end stays.
        - User names: at the start of a word, `@` and three or more of A-Z, a-z, 0-9 and `_`, with
          parts after a dot, or after another `@` (`@name@host.tld`), if there are. E-mail
          addresses, times (`@5pm`) and spellings such as `@ll` or `@sshole` stay.
        - The addresses in `WATERMARK_SITES`, in any case, with or without `www.` and a path, also
          with spaces around the dots, as text recognition leaves them. Anything else with a dot
          (`lol.com`, `3.com`) stays.
        - Control characters, halves of surrogate pairs, and invisible characters: zero-width
          spaces, directional marks, soft hyphens, stray tag characters. Joiners stay in emoji
          sequences and in scripts whose spelling needs them (Arabic, Indic and kin).

    Changed:
        - Any run of spaces, line breaks or blank letters becomes one space, none at either end.
        - Canonical composition (NFC): the same letter gets the same code points. NFKC would rewrite
          what authors chose, such as superscripts and fancy alphabets.
        - More than 30 combining marks on one letter are cut to 30.

    Kept: everything else, letter case and hashtags and emoji and all scripts included.

    Args:
        text: Any string.

    Returns:
        The cleaned text; may be empty. Takes time linear in the length of `text`.
    """
    text = _TAGS.sub(r"\1", _CONTROL.sub("", _INVISIBLE.sub("", text)))
    text = _JOINERS.sub(lambda match: "" if match[1] else match[0], text)
    text = _SPACES.sub(" ", _compose(text))
    for noise in (_URL, _SITE, _USER):
        text = noise.sub(" ", text)
    return _SPACES.sub(" ", text).strip()


def _compose(text: str) -> str:
    if text.isascii():
        return text
    kept, run = [], 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run <= _MAX_MARKS:
            kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))
