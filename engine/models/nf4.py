"""How weights are kept in 4 bits, and whether they can be here; read without torch."""

from importlib.util import find_spec

from engine.base.errors import NotAvailable

NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
"""As transformers' `BitsAndBytesConfig` names it; part of the hash of what is trained so."""


def check() -> None:
    """Nothing when weights can be quantised here; raises NotAvailable otherwise."""
    if find_spec("bitsandbytes") is None:
        raise NotAvailable(
            "4-bit weights (`qlora`) need bitsandbytes, which is not installed",
            "pip install 'persyn[qlora]', or set `distill: {method: lora}`",
        )
