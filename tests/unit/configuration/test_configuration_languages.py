"""Whatever an event calls a language, the user gets the closest texts there are."""

from pathlib import Path
from unicodedata import normalize

import pytest
from tests.unit.configuration.small_folder import SMALL, write

from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.rules import Languages


@pytest.fixture(scope="module")
def languages() -> Languages:
    """Read the languages of the bundled example."""
    return load(bundled_example()).languages


@pytest.mark.parametrize(
    ("said", "chain"),
    [
        *((name, ("bho", "hi", "en")) for name in ("Bhojpuri", "bho", "BHO", "bho-IN", "bho_IN")),
        ("भोजपुरी", ("bho", "hi", "en")),
        *((name, ("bgc", "hi", "en")) for name in ("Haryanvi", "bgc", "HARYANVI", "हरियाणवी")),
        *((name, ("raj", "hi", "en")) for name in ("Rajasthani", "raj", " raj ", "राजस्थानी")),
        *((name, ("hi", "en")) for name in ("Hindi", "hi", "hi-IN", "हिन्दी", "हिंदी")),
        *((name, ("en",)) for name in ("English", "en", "en-GB", "EN")),
        *((said, ("en",)) for said in ("Awadhi", "awa", "Klingon", "", "-", None, 3, ["hi"])),
    ],
)
def test_names_and_codes(languages: Languages, said: object, chain: tuple[str, ...]) -> None:
    """Code, English name and native name, in any case, mean the language; others the default."""
    assert languages.chain(said) == chain


def test_letters_in_parts(languages: Languages) -> None:
    """A native name is understood with its letters composed or taken apart."""
    for name in ("भोजपुरी", "हरियाणवी", "राजस्थानी", "हिन्दी"):
        forms = {languages.chain(normalize(form, name)) for form in ("NFC", "NFD")}
        assert len(forms) == 1
        assert forms != {("en",)}


def test_language_of_the_fallback_without_texts(tmp_path: Path) -> None:
    """A language that only the fallback names leads to the one that stands in for it."""
    rules = load(write(tmp_path, SMALL))

    assert rules.languages.chain("Bhojpuri") == ("bho", "hi", "en")
    assert rules.languages.chain("Haryanvi") == ("en",)


def test_other_default(tmp_path: Path) -> None:
    """Another language can be the default, also one that has no code of the world's."""
    engine = SMALL["engine.toml"].replace('default = "en"', 'default = "xx"')
    files = {**SMALL, "engine.toml": engine, "copy/xx.toml": SMALL["copy/en.toml"]}

    rules = load(write(tmp_path, files))

    assert rules.languages.chain("Tamil") == ("xx",)
    assert rules.languages.chain("Hindi") == ("hi", "xx")


def test_language_of_a_region(tmp_path: Path) -> None:
    """Texts for a region's own form serve that region; its name and code are both understood."""
    rules = load(write(tmp_path, {**SMALL, "copy/pt-BR.toml": SMALL["copy/en.toml"]}))

    assert rules.languages.chain("pt-BR") == ("pt-BR", "en")
    assert rules.languages.chain("pt_br") == ("pt-BR", "en")
    assert rules.languages.chain("Brazilian Portuguese") == ("pt-BR", "en")
