r"""Parser of quantities: numbers with units (`0.05\text{ m}`, `9.8 m s^{-2}`, `$5`), and counted nouns.

A small table of its own: the units that answers to word problems come in, each exactly in terms of the SI's.
Words behind a number either name what is counted (`apples`) or make another number of it (`dozen`).
"""

import re
from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple

MAX_CHARACTERS: Final = 120

Dimension = tuple[int, ...]
"""Powers of metre, kilogram, second, ampere, kelvin, mole, radian, bit and of each unit of money."""


class Unit(NamedTuple):
    """A product of powers of units."""

    factor: Fraction
    """In terms of the base units, times π to the power of `pi`."""
    dimension: Dimension
    pi: int = 0
    offset: Fraction = Fraction(0)
    """Kelvins at zero, for temperatures on other scales."""


class Quantity(NamedTuple):
    """The text of a number, and its unit."""

    number: str
    unit: Unit


_BASE_UNITS: Final = ("m", "kg", "s", "A", "K", "mol", "rad", "bit")
_CURRENCIES: Final = {
    "USD": "$ dollar buck", "EUR": "€ euro", "GBP": "£", "JPY": "¥ yen", "CNY": "yuan RMB",
    "INR": "₹ rupee Rs",
}  # fmt: skip
"""Signs and names of each. A pound is a mass."""


def _dimension(**powers: int) -> Dimension:
    return tuple(powers.get(name, 0) for name in (*_BASE_UNITS, *_CURRENCIES))


_NONE: Final = _dimension()
_LENGTH, _MASS, _TIME = _dimension(m=1), _dimension(kg=1), _dimension(s=1)
_AREA, _VOLUME = _dimension(m=2), _dimension(m=3)
_FORCE, _ENERGY = _dimension(kg=1, m=1, s=-2), _dimension(kg=1, m=2, s=-2)
_POWER, _PRESSURE = _dimension(kg=1, m=2, s=-3), _dimension(kg=1, m=-1, s=-2)
_KELVIN: Final = _dimension(K=1)
_PREFIXES: Final = {
    "n": -9, "μ": -6, "µ": -6, "u": -6, "m": -3, "c": -2, "d": -1, "h": 2, "k": 3, "M": 6, "G": 9, "T": 12,
}  # fmt: skip
_LONG_PREFIXES: Final = {
    "nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "hecto": 2, "kilo": 3, "mega": 6,
    "giga": 9, "tera": 12,
}  # fmt: skip
_PREFIXED: Final[dict[str, tuple[str, Fraction, Dimension]]] = {
    "m": ("meter metre", Fraction(1), _LENGTH),
    "g": ("gram gramme", Fraction(1, 1000), _MASS),
    "s": ("second sec", Fraction(1), _TIME),
    "A": ("ampere amp", Fraction(1), _dimension(A=1)),
    "mol": ("mole", Fraction(1), _dimension(mol=1)),
    "L": ("liter litre", Fraction(1, 1000), _VOLUME),
    "l": ("", Fraction(1, 1000), _VOLUME),
    "N": ("newton", Fraction(1), _FORCE),
    "J": ("joule", Fraction(1), _ENERGY),
    "Wh": ("", Fraction(3600), _ENERGY),
    "cal": ("calorie", Fraction(4184, 1000), _ENERGY),
    "eV": ("electronvolt", Fraction(1602176634, 10**28), _ENERGY),
    "W": ("watt", Fraction(1), _POWER),
    "Pa": ("pascal", Fraction(1), _PRESSURE),
    "bar": ("", Fraction(10**5), _PRESSURE),
    "Hz": ("hertz", Fraction(1), _dimension(s=-1)),
    "C": ("coulomb", Fraction(1), _dimension(A=1, s=1)),
    "V": ("volt", Fraction(1), _dimension(kg=1, m=2, s=-3, A=-1)),
    "Ω": ("ohm", Fraction(1), _dimension(kg=1, m=2, s=-3, A=-2)),
    "F": ("farad", Fraction(1), _dimension(kg=-1, m=-2, s=4, A=2)),
    "bit": ("", Fraction(1), _dimension(bit=1)),
    "B": ("byte", Fraction(8), _dimension(bit=1)),
}
"""Symbol, names, and what it is; all take prefixes."""
_MONEY: Final = re.compile(r"(-?)\s*\\?([$€£¥₹])\s*(-?[\d.,]+)|(-?[\d.,]+)\s*\\?([$€£¥₹])")
_PLAIN: Final[dict[str, tuple[str, Unit]]] = {
    "min": ("minute", Unit(Fraction(60), _TIME)),
    "h": ("hour hr hrs", Unit(Fraction(3600), _TIME)),
    "d": ("day", Unit(Fraction(86400), _TIME)),
    "wk": ("week", Unit(Fraction(7 * 86400), _TIME)),
    "yr": ("year", Unit(Fraction(365 * 86400), _TIME)),
    "t": ("ton tonne", Unit(Fraction(1000), _MASS)),
    "lb": ("pound lbs", Unit(Fraction(45359237, 10**8), _MASS)),
    "oz": ("ounce", Unit(Fraction(45359237, 16 * 10**8), _MASS)),
    "in": ("inch inches", Unit(Fraction(254, 10**4), _LENGTH)),
    "ft": ("foot feet", Unit(Fraction(3048, 10**4), _LENGTH)),
    "yd": ("yard", Unit(Fraction(9144, 10**4), _LENGTH)),
    "mi": ("mile", Unit(Fraction(1609344, 1000), _LENGTH)),
    "ha": ("hectare", Unit(Fraction(10**4), _AREA)),
    "acre": ("", Unit(Fraction(40468564224, 10**7), _AREA)),
    "gal": ("gallon", Unit(Fraction(3785411784, 10**12), _VOLUME)),
    "mph": ("", Unit(Fraction(1609344, 3600 * 1000), _dimension(m=1, s=-1))),
    "kph": ("kmh", Unit(Fraction(1000, 3600), _dimension(m=1, s=-1))),
    "cc": ("", Unit(Fraction(1, 10**6), _VOLUME)),
    "K": ("kelvin", Unit(Fraction(1), _KELVIN)),
    "°C": ("celsius", Unit(Fraction(1), _KELVIN, 0, Fraction(27315, 100))),
    "°F": ("fahrenheit", Unit(Fraction(5, 9), _KELVIN, 0, Fraction(45967, 180))),
    "°": ("degree deg", Unit(Fraction(1, 180), _dimension(rad=1), 1)),
    "rad": ("radian", Unit(Fraction(1), _dimension(rad=1))),
    "rev": ("revolution turn", Unit(Fraction(2), _dimension(rad=1), 1)),
    "rpm": ("", Unit(Fraction(2, 60), _dimension(rad=1, s=-1), 1)),
    "¢": ("cent", Unit(Fraction(1, 100), _dimension(USD=1))),
} | {code: (names, Unit(Fraction(1), _dimension(**{code: 1}))) for code, names in _CURRENCIES.items()}
_TEXT: Final = re.compile(r"\\(?:text|mathrm|mathit|operatorname|rm|unit)\s*\{([^{}]*)\}")
_DEGREES: Final = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*|\\degree|º")
_SPLIT: Final = re.compile(
    r"((?:\\(?:pi|sqrt|d?frac|times|cdot)(?![A-Za-z])|(?<![A-Za-z])(?:pi|sqrt)(?![A-Za-z])"
    r"|(?<=\d)[eE](?=[+-]?\d)|[^A-Za-zΩµμ°¢\\])*)(.*)"
)
_FACTOR: Final = re.compile(r"\s*([A-Za-zΩµμ°¢]+)(?:\s*\^\s*\{?\s*(-?\d)\s*\}?|([²³]))?")
_JOIN: Final = re.compile(r"\s*(/|\*|·|\bper\b)\s*|\s+")
_POWERS: Final = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


def split_quantity(text: str) -> Quantity | None:
    """The number's text and the unit; None where the text does not end in a unit that is known.

    >>> split_quantity("3 km").unit.factor, split_quantity("3x")
    (Fraction(3000, 1), None)
    """
    if len(text) > MAX_CHARACTERS:
        return None
    if money := _MONEY.fullmatch(text.strip()):
        sign, before, amount, alone, behind = money.groups()
        return Quantity(alone or sign + amount, _all_units()[behind or before])
    text = _DEGREES.sub("°", _TEXT.sub(r" \1 ", text)).replace("\\cdot", "·").replace("\\Omega", "Ω")
    found = _SPLIT.fullmatch(text.replace("\\mu", "μ").strip())
    if found is None:
        return None
    number, words = found[1].rstrip(" *·"), found[2].strip().rstrip(".")
    if not words or not any(mark.isdigit() or mark in "πi" for mark in number) or number[-1:] in "+-/^":
        return None
    unit = read_unit(words)
    return None if unit is None else Quantity(number, unit)


@cache
def read_unit(words: str) -> Unit | None:
    """The unit that the whole text is; None if it is none.

    >>> read_unit("km/h").factor
    Fraction(5, 18)
    """
    factor, dimension, pi, offset = Fraction(1), _NONE, 0, Fraction(0)
    at, sign, raised, count = 0, 1, 0, 0
    while at < len(words):
        found = _FACTOR.match(words, at)
        if found is None:
            return None
        name, at = found[1], found.end()
        if name.lower() in _POWERS and not raised:
            raised = _POWERS[name.lower()]
        else:
            unit = _unit_named(name)
            if unit is None:
                return None
            power = sign * (raised or int(found[2] or {"²": 2, "³": 3}.get(found[3] or "", 1)))
            factor *= unit.factor**power
            dimension = tuple(a + b * power for a, b in zip(dimension, unit.dimension, strict=True))
            pi, offset, raised, count = pi + unit.pi * power, unit.offset, 0, count + 1
        join = _JOIN.match(words, at)
        if at < len(words) and join is None:
            return None
        if join is not None:
            sign, at = (-1 if join[1] in ("/", "per") else sign), join.end()
            if at >= len(words):
                return None
    return (
        Unit(factor, dimension, pi, offset if count == 1 else Fraction(0)) if count and not raised else None
    )


def is_money(unit: Unit) -> bool:
    """True if it is a currency's own unit, and not a part of one."""
    return unit.factor == 1 and any(unit == each for each in _currencies())


@cache
def _currencies() -> tuple[Unit, ...]:
    return tuple(_all_units()[code] for code in _CURRENCIES)


def _unit_named(name: str) -> Unit | None:
    """By symbol, whose case counts (`Mg` is no `mg`), or by name in any case, one or many."""
    units = _all_units()
    if name in units:
        return units[name]
    lower = name.lower()
    for form in (lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if form in _long_names():
            return units[form]
    return None


@cache
def _long_names() -> frozenset[str]:
    """Names of units that are words, and no symbols with a prefix."""
    plain = [word for words, _ in _PLAIN.values() for word in words.split()]
    words = [word for words, *_ in _PREFIXED.values() for word in words.split()] + plain
    prefixed = [
        prefix + word
        for words, *_ in _PREFIXED.values()
        for word in words.split()
        for prefix in _LONG_PREFIXES
    ]
    symbols = [symbol for symbol in (*_PREFIXED, *_PLAIN) if symbol.islower()]
    return frozenset(word for word in (*words, *prefixed, *symbols) if len(word) > 2 and word.islower())


@cache
def _all_units() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for symbol, (words, factor, dimension) in _PREFIXED.items():
        for prefix, power in {"": 0, **_PREFIXES}.items():
            units[prefix + symbol] = Unit(factor * Fraction(10) ** power, dimension)
        for word in words.split():
            for prefix, power in {"": 0, **_LONG_PREFIXES}.items():
                units[prefix + word] = Unit(factor * Fraction(10) ** power, dimension)
    for symbol, (words, unit) in _PLAIN.items():
        units |= dict.fromkeys((symbol, *words.split()), unit)
    return units


_CHANGING: Final = frozenset(
    {"about", "above", "after", "almost", "always", "and", "approximately", "around", "backwards",
     "base", "before", "below", "besides", "billion", "binary", "but", "by", "cent", "couple", "crore",
     "cube", "cubed", "debt", "decimal", "deficit", "degree", "divided", "double", "dozen", "eight",
     "eighteen", "eighth", "eighty", "eleven", "factorial", "false", "fewer", "fifteen", "fifth",
     "fifty", "five", "forty", "four", "fourteen", "fourth", "googol", "grand", "gross", "guess",
     "half", "halve", "hex", "hexadecimal", "hundred", "hundredth", "if", "incorrect", "inverse", "ish",
     "lakh", "least", "less", "lies", "loss", "maybe", "milliard", "million", "millionth", "minus",
     "mistake", "mod", "modulo", "more", "most", "multiplied", "myriad", "nd", "nearly", "negative",
     "nine", "nineteen", "ninety", "ninth", "no", "none", "nope", "not", "octal", "of", "one", "ones",
     "opposite", "or", "otherwise", "over", "pair", "pct", "pence", "penny", "per", "percent",
     "percentage", "perhaps", "plural", "plus", "point", "power", "quadrillion", "quarter",
     "quintillion", "radian", "raised", "rd", "reciprocal", "remainder", "root", "roughly", "score",
     "seven", "seventeen", "seventh", "seventy", "short", "six", "sixteen", "sixth", "sixty",
     "sometimes", "square", "squared", "st", "ten", "tenth", "th", "than", "the", "third", "thirteen",
     "thirty", "thousand", "thousandth", "three", "times", "to", "trillion", "triple", "twelfth",
     "twelve", "twenty", "twice", "two", "under", "versus", "with", "without", "wrong", "zero",
     "zillion"}
)  # fmt: skip
_COUNTED: Final = re.compile(
    r"(.*[\d})])\s*(?:\\(?:text|mathrm)\s*\{([A-Za-z -]{3,40})\}|([A-Za-z][A-Za-z -]{3,40}))", re.DOTALL
)
_MEASURED: Final = re.compile(r"(?:square|cubic)\s+(?=[a-z]+\Z)")
_QUALIFIED: Final = re.compile(
    r"\s+(?:old|each|left|total|in\s+total|altogether|(?:of|per|every|an?)\s+([a-z]+))\Z"
)
"""Qualifiers that may follow the things counted: `dollars per day`, `bolts of fabric`."""
_PLURALS: Final = frozenset(
    {"people", "children", "men", "women", "sheep", "fish", "feet", "mice", "geese", "deer", "teeth", "dice"}
)
_MAX_WORDS: Final = 3


class CountedNoun(NamedTuple):
    """The text of a number, and the words that say of what."""

    number: str
    noun: str


def changes_value(word: str) -> bool:
    """True if the word makes another number of the one before it, such as `dozen`."""
    lower = word.lower()
    return any(lower.removesuffix(ending) in _CHANGING for ending in ("", "s", "es", "th", "ths"))


def split_counted(text: str) -> CountedNoun | None:
    r"""The number and what is counted; None where no plain words for things follow a number.

    >>> split_counted("12 apples"), split_counted("12 dozen")
    (Counted(number='12', noun='apples'), None)
    """
    found = _COUNTED.fullmatch(text)
    if found is None:
        return None
    number, noun = found[1].strip(), (found[2] or found[3]).strip().lower()
    return CountedNoun(number, noun) if _names_things(noun, number) else None


def _names_things(noun: str, number: str) -> bool:
    """True if it is `apples`, `square feet` or `green bolts of fabric`, and not `dozen` or `probably`."""
    noun = _MEASURED.sub("", noun)
    if qualified := _QUALIFIED.search(noun):
        if qualified[1] and changes_value(qualified[1]):
            return False
        noun = noun[: qualified.start()]
    words = noun.split()
    if not 0 < len(words) <= _MAX_WORDS or any(map(changes_value, words)):
        return False
    is_plural = words[-1] in _PLURALS or (words[-1].endswith("s") and len(words[-1]) > 3)
    return is_plural or ((not number.isdigit() or int(number) == 1) and len(words[-1]) > 3)
