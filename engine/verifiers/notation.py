"""One notation for what answers are written in: Unicode signs, styled LaTeX, Markdown.

`plain` gives characters, for numbers and words; `latex` gives what math-verify reads.
"""

import re
import unicodedata
from typing import Final

_DASHES: Final = {**dict.fromkeys(map(ord, "‐‑‒–−﹣－⁻"), "-"), ord("⁄"): "/"}
_SUPER: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_SUB: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ", "0123456789+-()n")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]{1,20}")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙ]{1,20}")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_COMMANDS: Final = """
α alpha β beta γ gamma δ delta ε epsilon ζ zeta η eta θ theta κ kappa λ lambda μ mu ν nu ξ xi π pi ρ rho σ sigma τ tau
φ phi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Φ Phi Ψ Psi Ω Omega
× times · cdot ⋅ cdot ∙ cdot ÷ div ± pm ∓ mp ≤ le ⩽ le ≥ ge ⩾ ge ≠ ne ≈ approx ∞ infty ∪ cup ∩ cap ∈ in ∉ notin
∅ emptyset ⊂ subset ⊆ subseteq → to ⟨ langle ⟩ rangle 〈 langle 〉 rangle ∫ int ∑ sum ∏ prod ∂ partial ∇ nabla ∠ angle
… ldots ⋯ cdots
"""
_SIGNS: Final = {
    ord(sign): rf"\{name} " for sign, name in zip(_COMMANDS.split()[::2], _COMMANDS.split()[1::2], strict=True)
} | {ord(sign): rf"\mathbb{{{letter}}}" for sign, letter in zip("ℝℤℕℚℂ", "RZNQC", strict=True)} | {
    ord(sign): r"^\circ " for sign in "°º"
}  # fmt: skip
_STYLE = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|up|md|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|emph|operatorname|underline|"
    r"boldsymbol|bm|pmb|boxed|fbox|framebox|ensuremath|colorbox\{\w{1,20}\}|textcolor\s?\{[\w!]{1,20}\}|"
    r"color\{[\w!]{1,20}\})\s?\{([^{}]*)\}"
)
_SWITCH = re.compile(
    r"\\(?:m?(?:left|right)(?![A-Za-z])(?:\s?\.)?|(?:displaystyle|textstyle|scriptstyle|limits|bf|rm|it|tt|sf|[Ll]arge|"
    r"small|huge|[Bb]igg?[lr]?|allowbreak|nonumber)(?![A-Za-z])|(?:color|phantom|hspace|vspace|label|tag)\s?\{[^{}]*\})\s?"
)
_SPACES = re.compile(
    r"\\[,;:> ]|\\q?quad(?![A-Za-z])|[~\u2000-\u200a\u202f\u205f\u3000\xa0]|\\(?:thin|med|thick)space"
)
_GROUPS = re.compile(
    r"(?<=\d)(?:,\s?\\!\s?|\{,\}(?:\\!)?\s?|\\!,|\\!|\\,|\\;|\\:|\\ |~|[\u2002-\u200a\u202f\xa0])(?=\d{3}(?!\d))"
)
_FRACTION = re.compile(r"(-?)\\[dtc]?frac\s?(?:\{\s?(-?)(\d+)\s?\}|(\d))\s?(?:\{\s?(\d+)\s?\}|(\d))")
_DEGREES = re.compile(r"\^?\s?\{?\s?\\(?:circ|degree)(?![A-Za-z])\s?\}?|\^\s?\{?\s?o(?![A-Za-z])\s?\}?")
_MINUS = re.compile(r"\b(?:negative|minus)\s+(?=[$\d\\])", re.IGNORECASE)
_MONEY: Final = {
    r"\$": "$", r"\%": "%", r"\pounds": "£", r"\textsterling": "£", r"\euro": "€", r"\texteuro": "€", r"\yen": "¥",
    r"\textcent": "¢", r"\cent": "¢", r"\textdollar": "$", r"\rupee": "₹", r"\#": "#", r"\&": "&", r"\_": "_",
}  # fmt: skip
_MONEY_SIGN = re.compile("|".join(rf"{re.escape(sign)}(?![A-Za-z])" for sign in _MONEY))
_DELIMITER = re.compile(r"(?<!\\)(?:\$|\\[()\[\]])")
_REPEATED = re.compile(r"(\.\d*)\\(?:overline|bar|dot)\s?\{(\d+)\}")
_ROOT = re.compile(r"([√∛∜])\s?(?:\(([^()]{1,80})\)|\{([^{}]{1,80})\}|(\d+(?:\.\d+)?|\\?[A-Za-z]{1,8}))")
_MARKDOWN = re.compile(r"\*\*(?=\S)|(?<=\S)\*\*|^\s*[*_#>`]+|[*_`]+\s*$|`")
_MARKED = re.compile(r"[*_#>`]|inus|egative")
_POWER = re.compile(r"(?<=[\w)])\*\*(?=[\w(-])")
_E_NOTATION = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,9})(?![\w.])")
_MIXED = re.compile(r"(?<![\d/.^_{,])(\d+)\s+(\d+)\s?/\s?(\d+)(?![\d/.])")
_PI = re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])", re.IGNORECASE)
_PLAIN_ANGLES = re.compile(r"^<\s*([^<>=]+,[^<>=]+)\s*>$")
_FUNCTIONS = re.compile(
    r"(?<![\\A-Za-z])((?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln)(?=[\s(^_\d{]|[a-z](?![a-z])|\\[a-z])"
)
_IN_BASE = re.compile(
    r"^\(?([0-9A-Za-z]{0,40}\d[0-9A-Za-z]{0,40})\)?,?\s*\(?(?:in )?base[\s-]{1,2}(\d{1,2})\)?$"
)
_PREFIXED = re.compile(r"^0([xb])([0-9A-Fa-f]+)$")
_NAMES = re.compile(r"(?<![\\A-Za-z])(sqrt|infinity|inf)\b\s?(?:\(([^()]{1,80})\))?")


def unstyled(text: str) -> str:
    """LaTeX without fonts, colours, boxes and sizes: `\\textcolor{red}{7}` and `\\text{7}` are `7`."""
    if "\\" not in text:
        return text
    text = _SWITCH.sub("", text)
    for _ in range(4):  # one in another
        text, count = _STYLE.subn(
            lambda found: f" {found[1]} " if found[0].startswith(r"\t") else found[1], text
        )
        if not count:
            break
    return text


def plain(text: str) -> str:
    """As characters: numbers and fractions without LaTeX, one kind of dash and of space, no math delimiters."""
    if not text.isascii():
        text = _VULGAR.sub(lambda sign: " " + unicodedata.normalize("NFKC", sign[0]).replace("⁄", "/"), text)
        text = _SUPER_RUN.sub(lambda run: f"^{run[0].translate(_SUPER)}", text)
    if "\\" in text or "{" in text:
        text = _GROUPS.sub(",", text)
        text = _REPEATED.sub(r"\1(\2)", unstyled(text))
        text = _FRACTION.sub(_flat, text)
        text = _DEGREES.sub("°", text)
        text = _SPACES.sub(" ", text).replace(r"\!", "")
        text = text.replace(r"\times", "×").replace(r"\cdot", "·").replace(r"\approx", "≈")
    # "$5$" are delimiters, "$5" is money.
    if "\\" in text or (text.count("$") and text.count("$") % 2 == 0):
        text = _MONEY_SIGN.sub(lambda sign: _MONEY[sign[0]], _DELIMITER.sub("", text))
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_DASHES))
    if _MARKED.search(text):
        text = _MINUS.sub("-", _MARKDOWN.sub("", text))
    text = " ".join(text.split())
    while len(text) > 1 and text[0] == "{" and text[-1] == "}":
        text = text[1:-1].strip()
    return text


def latex(text: str) -> str:
    """As LaTeX that math-verify reads: Unicode signs as commands, no styles, no grouping of digits."""
    text = _POWER.sub("^", text)
    text = _VULGAR.sub(_as_fraction, text)
    text = _SUPER_RUN.sub(lambda run: f"^{{{run[0].translate(_SUPER)}}}", text)
    text = _SUB_RUN.sub(lambda run: f"_{{{run[0].translate(_SUB)}}}", text)
    text = _ROOT.sub(_as_root, text)
    text = _DELIMITER.sub("", _GROUPS.sub("", text))
    text = _MINUS.sub("-", unstyled(text))
    text = _MONEY_SIGN.sub(lambda sign: rf"\{sign[0][1:]}" if sign[0] in (r"\%", r"\_") else "", text)
    text = text.translate(_SIGNS).translate(_DASHES)
    text = unicodedata.normalize("NFKC", text)
    text = _SPACES.sub(" ", text)
    text = _REPEATED.sub(_as_rational, text)
    text = _MARKDOWN.sub("", text).strip()
    text = _PLAIN_ANGLES.sub(r"(\1)", text)
    text = re.sub(r"\\langle(?![A-Za-z])", "(", re.sub(r"\\rangle(?![A-Za-z])", ")", text))
    text = _NAMES.sub(_as_command, text)
    text = _E_NOTATION.sub(r"\1\\times 10^{\2}", text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    text = _FUNCTIONS.sub(r"\\\1 ", _PI.sub(r"\\pi ", text))
    text = _IN_BASE.sub(
        r"\1_{\2}", _PREFIXED.sub(lambda digits: f"{digits[2]}_{{{16 if digits[1] == 'x' else 2}}}", text)
    )
    return text.replace(">=", r"\ge ").replace("<=", r"\le ")


def _flat(found: re.Match[str]) -> str:
    sign = "-" if (found[1] == "-") != (found[2] == "-") else ""
    return f" {sign}{found[3] or found[4]}/{found[5] or found[6]}"


def _as_fraction(sign: re.Match[str]) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", sign[0]).partition("⁄")
    return rf"\frac{{{top}}}{{{bottom}}}"


def _as_root(found: re.Match[str]) -> str:
    degree = {"√": "", "∛": "[3]", "∜": "[4]"}[found[1]]
    return rf"\sqrt{degree}{{{found[2] or found[3] or found[4]}}}"


def _as_command(found: re.Match[str]) -> str:
    if found[1] != "sqrt":
        return r"\infty " + (f"({found[2]})" if found[2] else "")
    return rf"\sqrt{{{found[2]}}}" if found[2] else r"\sqrt"


def _as_rational(found: re.Match[str]) -> str:
    # The whole part stands before it: 1.2(3) is 1 + 0.2 + 0.0(3).
    known, period = found[1][1:], found[2]
    top = int(known + period) - int(known or 0)
    below = (10 ** len(period) - 1) * 10 ** len(known)
    return rf"+\frac{{{top}}}{{{below}}}"
