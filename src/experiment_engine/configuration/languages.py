"""Which languages there are, and under which names a user's event may speak of them."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from unicodedata import normalize

from babel import Locale, UnknownLocaleError

from experiment_engine.configuration.kinds import NAME
from experiment_engine.configuration.tables import Table, mistake, nearest, show
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.rules import Languages

_CODE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_USUAL_FALLBACK = {"bho": "hi", "bgc": "hi", "raj": "hi"}
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {  # which Babel does not have
    "en": ("eng",),
    "hi": ("hin", "हिंदी"),
    "bgc": ("haryanavi", "hariyanvi"),
}


def read_languages(table: Table, copy: Mapping[str, Table]) -> Languages:
    """Read `[languages]`; the copy files say which languages have texts."""
    table.only("default", "fallback")
    default = table.get("default", NAME, Languages.default)
    if default not in copy:
        raise mistake(
            table.file,
            f"{show(default)} has no texts: add copy/{default}.toml, or name a language that has"
            f"{nearest(default, copy, 'Languages with texts')}",
            ("languages", "default"),
            stand_in=next(iter(copy), None),
        )
    for code, texts in copy.items():
        if code not in _names_by_code() and (code != default or not _CODE.fullmatch(code)):
            raise _wrong_file_name(code, texts)
    fallback = _read_fallback(table, copy)
    used = (default, *copy, *fallback, *fallback.values())
    return Languages(default=default, codes=_codes(used), fallback=fallback)


def require_language(table: Table, key: str, code: str, copy: Mapping[str, Table]) -> str:
    """Return the code; raise ConfigurationError about the key if no language has it."""
    if code in _names_by_code() or code in copy:
        return code
    meant = _meant(code)
    mend = show(meant) if meant else 'one such as "en", "hi" or "bho"'
    raise table.mistake(key, f"{show(code)} is no language code: write {mend}")


def _read_fallback(languages: Table, copy: Mapping[str, Table]) -> Mapping[str, str]:
    if "fallback" not in languages:
        return _USUAL_FALLBACK
    table = languages.table("fallback")
    fallback = {}
    for code, to in table.each(NAME).items():
        require_language(table, code, code, copy)
        fallback[code] = require_language(table, code, to, copy)
    for start in fallback:
        _refuse_circle(table, start, fallback)
    return fallback


def _refuse_circle(table: Table, start: str, fallback: Mapping[str, str]) -> None:
    chain = [start]
    while (after := fallback.get(chain[-1])) is not None:
        chain.append(after)
        if after in chain[:-1]:
            circle = " -> ".join(chain)
            raise table.mistake(start, f"goes round in a circle ({circle}): take one out")


def _wrong_file_name(code: str, texts: Table) -> ConfigurationError:
    meant = _meant(code)
    mend = f"copy/{meant}.toml" if meant else "it by its language's code, such as copy/hi.toml"
    return mistake(texts.file, f"{show(code)} is no language code: name {mend}")


def _meant(text: str) -> str | None:
    wanted = text.strip().lower().replace("_", "-")
    for code, name in _names_by_code().items():
        if wanted in (code.lower(), name.lower(), *_OTHER_NAMES.get(code, ())):
            return code
    return None


def _codes(languages: Iterable[str]) -> dict[str, str]:
    """Map lower-case names, English and native, and codes, which go first, to codes."""
    used = tuple(dict.fromkeys(languages))
    codes: dict[str, str] = {}
    for code in used:
        for name in _names(code):
            for form in ("NFC", "NFD"):  # events bring letters composed or in parts
                codes.setdefault(normalize(form, name.lower().replace("_", "-")), code)
    return codes | {code.lower(): code for code in used}


@cache
def _names(code: str) -> tuple[str, ...]:
    english = _names_by_code().get(code)
    names = [english] if english else []
    try:
        own = Locale.parse(code, sep="-").languages.get(code.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        own = None
    return (*names, *([own] if own else []), *_OTHER_NAMES.get(code, ()))


@cache
def _names_by_code() -> Mapping[str, str]:
    languages = Locale.parse("en").languages
    return {code.replace("_", "-"): name for code, name in languages.items()}
