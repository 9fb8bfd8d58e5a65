"""Answers that are one number: its exact value, and what stands beside it (currency, unit, percent sign).

read("$1,234.50")             1234.5
read("5\\frac{2}{3} cm")       17/3 cm
read("20 thousand dollars")   20000 dollars
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Final

from engine.verifiers.notation import plain
from engine.verifiers.units import UNITS, unit_of

_NEAR = 60
"""Characters of a text's end in which its last number is looked for first."""
LONGEST = 300
"""Characters of a text that is read as one number."""
_LARGEST_EXPONENT = 400
_WIDE = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)

_DIGITS = r"(?:\d{1,3}(?:[,' _]\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+)"
_NUMBER = rf"""
    (?P<sign>[-+]?)[ ]?(?P<currency>US\$|R\$|[$€£¥₹₽₩฿₫₺₴₪₱₦]|(?:USD|EUR|GBP|INR|Rs\.?)(?=[ ]?\d))?[ ]?(?P<inner>-?)
    (?:(?P<european>\d{{1,3}}(?:\.\d{{3}})+,\d{{1,2}})
    |(?P<whole>{_DIGITS})(?P<decimals>\.\d+|\.(?=\())?(?P<repeated>\((?P<period>\d+)\))?
    |(?P<bare>\.\d+))
    (?:[ ]?(?:[xX×*·]|\\times|\\cdot)[ ]?10(?:\^|\*\*)\{{?(?P<power>[-+]?\d{{1,9}})\}}?
    |[eE](?P<exponent>[-+]?\d{{1,9}})(?![\w.]))?
    (?:[ ]?/[ ]?(?P<below>\d+)(?![\d.])|[ ]+(?P<top>\d+)[ ]?/[ ]?(?P<bottom>\d+)(?![\d.]))?
"""
_LABEL = r"""
    (?:(?:[A-Za-z](?:_\w{1,3})?|[A-Z][a-z]{2,9}|[A-Za-z]\([A-Za-z]\)|\\?[a-z]{2,7})[ ]?(?:=|≈|:)[ ]?)?
    (?:(?:about|approximately|approx\.?|roughly|around|exactly|only|just|a\ total\ of|equal\ to|≈|=|~)[ ]?)*
"""
_ONE = re.compile(
    rf"{_LABEL}{_NUMBER}(?P<rest>[^\d=<>+*^()\\|{{}}]*(?:[a-z ][ ]?\^\{{?-?[1-4]\}}?|[a-z]2|/[a-z]{{1,4}}\^?2)?)",
    re.VERBOSE,
)
_LOOSE = re.compile(rf"(?<![\w.^_/*+×·\\{{]){_NUMBER}(?P<rest>[^\d=<>+*^()\\|{{}}×·/!]{{0,40}})", re.VERBOSE)
_SEVERAL = re.compile(r"[^\d.;]{0,30}?(?:\bor\b|\band\b|\bto\b|-|–|,(?!\s*\d+\s*[A-Za-z]))\W*\d")
_ATTACHED = re.compile(r"[^\s\-\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
_GOES_ON = re.compile(r"(?<! )\(|[=<>+*^\\{/×·!]")
_RANGE = re.compile(r"(?:\bbetween\s+\S+\s+and|\bfrom\s+\S+\s+to|\d\s*(?:\bor\b|/))\s*$")
_RESULT = re.compile(r"=\s?(-?[$€£]?\d(?:[^=\n,;]|,(?=\d{3})){0,150})$")
_NEW_CLAUSE = re.compile(r"\b(?:so|is|are|and|was|were|has|have|leaves?|means?|gives?|gets?|costs?|makes?)\b")
_START = re.compile(
    r"(?<![\w.,#])[-−]?(?:[$€£¥₹]-?\d{1,3}(?: \d{3})+(?!\d)|[$€£¥₹]?-?(?:\d{1,3}(?:[,'’\u202f\xa0]\d{3})+(?!\d)|\d+))"
    r"(?:\.\d+)?"
    r"(?:\s?(?:×|x|\*|\\times)\s?10(?:\^\{?[-−]?\d+|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)|[/⁄]\d+|\s\d+[/⁄]\d+)?"
)
_SCALES: Final[Mapping[str, int]] = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "lakh": 10**5,
    "crore": 10**7, "k": 10**3, "千": 10**3, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8,
    "만": 10**4,
}  # fmt: skip
_REST = re.compile(
    r"-?(?P<scale>(?:hundred|thousand|million|billion|trillion|lakh|crore)s?\b|[kK](?![A-Za-z])|[千万萬亿億만])?"
    r"[ -]?(?P<percent>%|per ?cent\b|percentage(?: points?)?\b|pct\b)?(?P<unit>.*)",
    re.DOTALL,
)
_TEENS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS: Final = {word: value for value, word in enumerate(_TEENS.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), 2)
}
_MATHEMATICS = re.compile(
    "pi|ln|log|lg|(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|exp|sqrt|mod|abs|max|min|gcd|lcm|inf|infinity|and|or|choose"
)


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as an answer has it."""

    value: Fraction | Decimal
    """Exact; a Decimal where its exponent is beyond what is worth writing out."""
    written: str
    """The digits as they stand there."""
    unit: str = ""
    """What the number counts: one of the known units, or the words as they stand there; "" without any."""
    percent: bool = False
    inexact: bool = False
    """Written with a decimal point: it may be rounded."""

    @property
    def known(self) -> bool:
        """Whether nothing but a known unit, or none, stands beside it."""
        return not self.unit or self.unit in UNITS


def read(text: str) -> Quantity | None:
    """The number that the text is, with what may stand beside one; None where it is anything else.

    A mixed fraction, grouped digits, a power of ten, a percent sign, a currency, "thousand" and the like, a label
    ("x = ") and words after it are read; an expression is not a number.
    """
    if text.isdecimal() and text.isascii() and len(text) < _NEAR:
        return Quantity(Fraction(int(text)), text)
    if len(text) > LONGEST:
        return None
    shown = plain(text)
    found = _ONE.fullmatch(shown)
    return _of(found) if found else _in_words(shown)


def first_in(text: str) -> Quantity | None:
    """The first number in a sentence; None where none is there, or it is part of an expression."""
    shown = plain(text[:LONGEST])
    for found in _LOOSE.finditer(shown):
        if (not found["rest"].strip() and _GOES_ON.match(shown, found.end())) or _SEVERAL.match(
            shown, found.start("rest")
        ):
            return None
        if (quantity := _of(found)) is not None:
            return quantity
    return None


def last_in(text: str) -> Quantity | None:
    """The last number in a text, or the result of an equation that it ends in; None where it ends a range."""
    if "=" in text[-LONGEST:] and (result := _RESULT.search(text[-LONGEST:])) is not None:
        found = _LOOSE.match(plain(result[1]))
        if (
            found
            and not _NEW_CLAUSE.search(result[1])
            and not _GOES_ON.match(found.string, found.end())
            and (quantity := _of(found)) is not None
        ):
            return quantity
    near = text.rfind(" ", 0, max(0, len(text) - _NEAR)) + 1
    starts = [found.start() for found in _START.finditer(text, near)] or (
        [found.start() for found in _START.finditer(text)] if near else []
    )
    if starts and _RANGE.search(text, max(0, starts[-1] - 40), starts[-1]):
        return None
    if not starts:
        return None
    found = _LOOSE.match(plain(text[starts[-1] : starts[-1] + 2 * _NEAR].partition("\n")[0]))
    number = _START.match(text, starts[-1])
    return (_of(found) if found else None) or (read(number[0]) if number else None)


def same(gold: Quantity, given: Quantity) -> bool:
    """Whether two numbers are equal.

    Known units are converted ("1.5 km" is "1500 m", 5 m is not 5 km); where one lacks a unit the other's is left out.
    A percent sign may be missing ("50" for "50 %"), but from a number under 1 ("0.5" is "50 %", not "0.5 %").
    Of numbers written with a decimal point six decimals and four digits must agree: they may be rounded.
    """
    left, right = gold.value, given.value
    inexact = gold.inexact or given.inexact
    if gold.unit in UNITS and given.unit in UNITS and gold.unit != given.unit:
        (kind, factor), (other, other_factor) = UNITS[gold.unit], UNITS[given.unit]
        if kind != other or isinstance(left, Decimal) or isinstance(right, Decimal):
            return False
        return close(left * factor, right * other_factor, inexact=inexact)
    if gold.percent == given.percent or (not any(-1 < value < 1 for value in (left, right))):
        return close(left, right, inexact=inexact) or (
            gold.percent != given.percent and _hundredth(gold, given)
        )
    return _hundredth(gold, given)


def close(left: Fraction | Decimal, right: Fraction | Decimal, *, inexact: bool) -> bool:
    """Whether two values are equal, or of inexact ones the one may be the other rounded."""
    if isinstance(left, Decimal) or isinstance(right, Decimal):
        return type(left) is type(right) and left == right
    return left == right or (
        inexact
        and round(left, 6) == round(right, 6)
        and abs(left - right) <= max(abs(left), abs(right)) / 10_000
    )


def _hundredth(gold: Quantity, given: Quantity) -> bool:
    if isinstance(gold.value, Decimal) or isinstance(given.value, Decimal):
        return False
    values = [one.value / 100 if one.percent else one.value for one in (gold, given)]
    return close(*values, inexact=gold.inexact or given.inexact)


def _of(found: re.Match[str]) -> Quantity | None:
    rest = _REST.fullmatch(found["rest"].strip(" .,;:?"))
    if rest is None or found["rest"].startswith("!"):  # 5!
        return None
    attached = bool(_ATTACHED.match(found["rest"]))
    unit = _unit(
        rest["unit"].strip(" .,;:!?-"), attached=attached and not rest["scale"] and not rest["percent"]
    )
    if unit is None or (unit and found["currency"] and unit not in UNITS and rest["percent"]):
        return None
    value = _value(found)
    if value is None:
        return None
    if rest["scale"]:
        if isinstance(value, Decimal):
            return None
        value *= _SCALES[rest["scale"].lower().removesuffix("s")]
    currency = (found["currency"] or "").lower()
    unit = (unit_of(currency) or currency) or unit
    written = found[0][
        found.start("sign") - found.start() : found.end("rest") - found.start() - len(found["rest"])
    ]
    point = bool(found["decimals"] or found["bare"] or found["european"])
    return Quantity(
        value, written.strip(), unit, bool(rest["percent"]), point and not (found["below"] or found["period"])
    )


def _value(found: re.Match[str]) -> Fraction | Decimal | None:
    if found["european"]:
        number = Fraction(found["european"].replace(".", "").replace(",", "."))
    elif found["bare"]:
        number = Fraction("0" + found["bare"])
    else:
        whole, decimals = found["whole"], (found["decimals"] or ".")[1:]
        digits = (whole if whole.isdigit() else re.sub(r"\D", "", whole)) + decimals
        number = Fraction(int(digits), 10 ** len(decimals))
        if found["period"]:
            places = len(found["decimals"] or ".") - 1
            number += Fraction(int(found["period"]), (10 ** len(found["period"]) - 1) * 10**places)
    if "0" in (found["below"] and str(int(found["below"])), found["bottom"] and str(int(found["bottom"]))):
        return None
    if found["below"]:
        number /= int(found["below"])
    if found["top"]:
        number += Fraction(int(found["top"]), int(found["bottom"]))
    negative = "-" in (found["sign"], found["inner"])
    power = int(found["power"] or found["exponent"] or 0)
    if abs(power) > _LARGEST_EXPONENT and number:
        digits = _WIDE.divide(Decimal(number.numerator), Decimal(number.denominator))
        return _WIDE.scaleb(-digits if negative else digits, power).normalize(_WIDE)
    if power:
        number *= Fraction(10) ** power
    return -number if negative else number


def _unit(words: str, *, attached: bool) -> str | None:
    """The unit that stands after a number, "" for none; None where it is mathematics: "3x", "3 pi"."""
    known = (unit_of(words) or unit_of(_power(words))) if words else None
    if known is not None and not (attached and len(known) == 1 and known.isupper() and known != "L"):
        return known
    if not words or (attached and words in ("st", "nd", "rd", "th")):
        return ""
    lowered = re.sub(r"\s?\^\{?[1-4]\}?$", "", words.lower())
    each = re.findall(r"[^\W\d_]+", lowered)
    if attached or not each or _MATHEMATICS.fullmatch(each[0]):
        return None
    return (
        lowered
        if (len(each[0]) > 1 or not each[0].isascii()) and not re.search(r"[=<>+*^\\∞π]", lowered)
        else None
    )


def _power(words: str) -> str:
    """`cm²` of `cm^2`, `cm2` and `cm^{2}`."""
    squared = re.fullmatch(r"([a-zA-Z]{1,2})[ ]?\^?\{?([23])\}?", words)
    return f"{squared[1]}{'²' if squared[2] == '2' else '³'}" if squared else ""


def _in_words(text: str) -> Quantity | None:
    """ "Twenty-four" and "five apples"."""
    first, *others = re.split(r"[ -]", text.strip(" .").lower(), maxsplit=2) or [""]
    if first not in _WORDS:
        return None
    value = _WORDS[first]
    if others and value >= 20 and 0 < _WORDS.get(others[0], 0) < 10:
        value += _WORDS[others.pop(0)]
    rest = " ".join(others)
    unit = _unit(rest, attached=False)
    scale = _SCALES.get(rest.removesuffix("s"), 0)
    if scale:
        value, unit = value * scale, ""
    return None if unit is None else Quantity(Fraction(value), text, unit)
