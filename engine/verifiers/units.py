"""Units that answers have, and what they are worth."""

from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Final

_TABLE = """
mm: length: 0.001: millimeter, millimetre
cm: length: 0.01: centimeter, centimetre
dm: length: 0.1: decimeter
m: length: 1: meter, metre
km: length: 1000: kilometer, kilometre
in: length: 0.0254: inch, inche
ft: length: 0.3048: foot, feet
yd: length: 0.9144: yard
mi: length: 1609.344: mile
mm²: area: 0.000001: square millimeter, sq mm
cm²: area: 0.0001: square centimeter, square centimetre, sq cm
m²: area: 1: square meter, square metre, sq m
km²: area: 1000000: square kilometer, square kilometre, sq km
in²: area: 0.00064516: square inch, square inche, sq in
ft²: area: 0.09290304: square foot, square feet, sq ft
cm³: volume: 0.001: cubic centimeter, cubic centimetre, cc
m³: volume: 1000: cubic meter, cubic metre
mL: volume: 0.001: milliliter, millilitre, ml
L: volume: 1: liter, litre, l
mg: mass: 0.000001: milligram
g: mass: 0.001: gram
kg: mass: 1: kilogram, kilo
lb: mass: 0.45359237: lbs
oz: mass: 0.028349523125: ounce
ms: time: 0.001: millisecond
s: time: 1: second, sec
min: time: 60: minute
h: time: 3600: hour, hr
d: time: 86400: day
wk: time: 604800: week
m/s: speed: 1: meters per second, metres per second
km/h: speed: 1/3.6: kilometers per hour, kilometres per hour, kmh, kph
mph: speed: 0.44704: miles per hour
°: angle: 1: degree, deg
rad: radians: 1: radian
°C: celsius: 1: °c, degrees celsius, degree celsius
°F: fahrenheit: 1: °f, degrees fahrenheit, degree fahrenheit
N: force: 1: newton
kN: force: 1000: kilonewton
J: energy: 1: joule
kJ: energy: 1000: kilojoule
cal: energy: 4.184: calorie
kcal: energy: 4184: kilocalorie
eV: energy in eV: 1: electronvolt
W: power: 1: watt
kW: power: 1000: kilowatt
V: voltage: 1: volt
A: current: 1: amp, ampere
C: charge: 1: coulomb
Ω: resistance: 1: ohm
K: temperature: 1: kelvin
Hz: frequency: 1: hertz
kHz: frequency: 1000: kilohertz
MHz: frequency: 1000000: megahertz
Pa: pressure: 1: pascal
kPa: pressure: 1000: kilopascal
mol: amount: 1: mole
$: dollars: 1: dollar, usd, us$, buck
¢: dollars: 0.01: cent
€: euros: 1: euro, eur
£: sterling: 1: gbp
¥: yen: 1: yen, 円, 元
₹: rupees: 1: rupee, rs, rs., inr
"""
"""Unit: what it measures: how many of that measure's base unit, exactly: its names, without a plural's s.

By the definitions of SI and of the yard and pound. Not here: "pound" is a mass and a currency, "ton" three masses.
"""


def _rows() -> list[list[str]]:
    return [line.split(": ") for line in _TABLE.strip().splitlines()]


def _worth(written: str) -> Fraction:
    top, _, below = written.partition("/")
    return Fraction(top) / Fraction(below or "1")


UNITS: Final[Mapping[str, tuple[str, Fraction]]] = {row[0]: (row[1], _worth(row[2])) for row in _rows()}
"""Unit → (what it measures, how many of the base unit)."""
_NAMES: Final = {name: row[0] for row in _rows() for name in row[3].split(", ")}


@lru_cache(maxsize=1024)
def unit_of(words: str) -> str | None:
    """The unit of this name or sign, None where none is known."""
    lowered = words.lower()
    return next(
        (
            form
            for form in (words, _NAMES.get(lowered), _NAMES.get(lowered.removesuffix("s")))
            if form in UNITS
        ),
        None,
    )
