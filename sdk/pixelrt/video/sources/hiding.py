"""What people may see of an address: everything but its secrets, and in doubt less.

A camera's password stands in many places: before the `@`, in the query, in the path (`user=..._password=...`)
and in the properties of a pipeline; where it was not escaped, across several of them.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_LOCAL = frozenset(("bag", "csi", "test", "v4l2"))
"""Schemes whose places are files and numbers, which may have colons in them."""
_HARMLESS = frozenset(
    (
        "camera",
        "ch",
        "channel",
        "channelno",
        "fps",
        "id",
        "profile",
        "res",
        "size",
        "stream",
        "subtype",
        "track",
    )
)
"""Keys whose values say which picture it is; the values of all others may be secrets."""
_FAMILIAR = _HARMLESS | frozenset(
    ("auth", "key", "passphrase", "passwd", "password", "pwd", "secret", "token", "user", "username", "usr")
)
"""Keys that are themselves no part of a secret."""
_WHICH = re.compile(r"[A-Za-z]{0,12}\d{0,4}(x\d{1,4})?(\.[a-z]{2,4})?")
"""Values of harmless keys."""
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[\w.-]*)(:\d{0,5})?")
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
_BEGINNING = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*:?/+)?")
"""Of what may be an address whose scheme was not spelled right."""
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(user(?:name)?|usr|login\w*|pass(?:word|wd|phrase)?|passwort|pwd?|token|auth\w*|\w*key|"
    r"secret)\s*[=:]",
    re.IGNORECASE,
)
_END_OF_PATH = re.compile(rf"(?:[_&;](?:{'|'.join(sorted(_HARMLESS))})=\d{{1,3}}(?:\.sdp)?)+$", re.IGNORECASE)
"""`_channel=1_stream=0.sdp`: which of a camera's pictures it is."""
_TOKEN = re.compile(
    r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)
"""In a path: nobody names a picture so."""
_PROPERTY = re.compile(
    r"(?<![\w-])([\w-]*(?:user|pw|pass(?:word|wd|phrase)|token|auth|secret|cookie|header|cred|proxy-id)[\w-]*|"
    r"(?:[\w-]*-)?key|pass|pwd)"
    r"(\s*=\s*)(\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ENDS = {
    '"': re.compile(r"(?:\\.|[^\"\\])*", re.DOTALL),
    "'": re.compile(r"(?:\\.|[^'\\])*", re.DOTALL),
    "": re.compile(r"(?:\\.|[^\s\\])*", re.DOTALL),
}
"""How far a value goes in a pipeline, by its quotation mark."""


def without_secrets(text: str) -> str:
    """An address of any kind, or what was meant to be one, without user, password and tokens.

    Args:
        text: A URI, a path, or `gst://` and a pipeline.
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match else ""
    if match and scheme == "gst":
        return text[: match.end()] + pipeline_without_secrets(text[match.end() :])
    if match and scheme not in _LOCAL:
        return f"{match[1]}://{_network(text[match.end() :])}"
    return _local(text)


def pipeline_without_secrets(text: str) -> str:
    """A pipeline of GStreamer without the secrets in its properties and in the addresses that it names."""
    shown, done = "", 0
    begins = [*_ADDRESS.finditer(text)]
    for number, begin in enumerate(begins, 1):
        if begin.start() < done:
            continue
        end = _end_of_address(text, begin, begins[number].start() if begins[number:] else len(text))
        address = text[begin.end() : end]
        shown += text[done : begin.end()] + _named(address)
        done = end
    return _PROPERTY.sub(rf"\1\2{HIDDEN}", shown + text[done:])


def words_without_secrets(words: str, text: str) -> str:
    """What a library says about a pipeline, without what `pipeline_without_secrets` hides of it.

    Args:
        words: They may repeat any part of the pipeline.
        text: The pipeline.
    """
    shown = pipeline_without_secrets(text)

    def seen(word: re.Match[str]) -> str:
        return HIDDEN if word[0] in text and word[0] not in shown else word[0]

    return re.sub(r"[\w%+.-]{3,}", seen, pipeline_without_secrets(words))


def may_be_secret(key: str) -> bool:
    """Whether a value of that key is nothing for people."""
    return _KEY.fullmatch(f"{key}=") is not None


def _end_of_address(text: str, begin: re.Match[str], following: int) -> int:
    """Where an address ends within a pipeline: behind its last `@` in any case, should it lack quotes."""
    mark = text[begin.start() - 1 : begin.start()]
    end = _ENDS.get(mark, _ENDS[""])
    last_at = text.rfind("@", begin.end(), following)
    match = end.match(text, begin.end())
    if match is not None and match.end() < last_at:
        match = end.match(text, last_at)
    return match.end() if match is not None else begin.end()


def _named(address: str) -> str:
    """What stands behind `scheme://` within a pipeline."""
    plain = re.sub(r"\\(.)", r"\1", address)
    shown = _network(plain)
    return (
        address if shown == plain else shown if "@" not in plain or HIDDEN in shown else f"{HIDDEN}@{shown}"
    )


def _network(rest: str) -> str:
    """What stands behind `scheme://`."""
    rest, mark, options = rest.partition("#")
    if "@" in options:
        return HIDDEN
    before_query, question, query = rest.partition("?")
    place, slash, path = before_query.partition("/")
    if "@" in path + query and ":" in place:  # a password that was not escaped
        return _behind_last_at(rest)
    place = place.rpartition("@")[2]
    if not _PLACE.fullmatch(place):
        return HIDDEN
    return f"{place}{slash}{_path(path)}{question}{_query(query)}{mark and mark + HIDDEN}"


def _behind_last_at(rest: str) -> str:
    """The host behind a user and a password; nothing, if those may be in the query or the path."""
    hidden, _, place = rest.rpartition("@")
    shown = HIDDEN if "=" in hidden or "?" in hidden else _network(place)
    return shown if shown == HIDDEN else f"{HIDDEN}@{shown}"


def _path(path: str) -> str:
    plain = unquote(path)
    parts = _until_colon(_until_secret(plain)).split("/")
    hidden = "/".join(HIDDEN if _TOKEN.search(part) else part for part in parts)
    return path if hidden == plain else hidden


def _until_secret(path: str) -> str:
    """A path up to its first secret: nobody knows where that ends."""
    key = _KEY.search(path)
    if key is None:
        return path
    end = _END_OF_PATH.search(path, key.end())
    return f"{path[: key.end()]}{HIDDEN}{end[0] if end else ''}"


def _until_colon(path: str) -> str:
    name, colon, _ = path.partition(":")
    return f"{name}:{HIDDEN}" if colon and HIDDEN not in path else path


def _query(query: str) -> str:
    shown, hides = [], False
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        harmless = key.lower() in _HARMLESS and _WHICH.fullmatch(value) and not (hides and value.isalpha())
        hides = hides or not harmless
        if harmless:
            shown.append(pair)
        elif key.lower() in _FAMILIAR and equals:
            shown.append(f"{key}={HIDDEN}" if value else pair)
        else:
            shown.append(HIDDEN)
    return "&".join(shown)


def _local(text: str) -> str:
    """A path or a device. An address whose scheme was not spelled right is none, and looks like one."""
    begin = _BEGINNING.match(text)
    rest = text[begin.end() :] if begin else text
    if "@" in rest and ":" in rest[: rest.rindex("@")]:
        return f"{text[: begin.end()] if begin else ''}{_behind_last_at(rest)}"
    path, question, query = text.partition("?")
    shown = _until_secret(path)
    if shown != path:
        return shown + question + (query and HIDDEN)
    return shown + question + (_query(query) if _KEY.search(query) else query)
