"""Figures as people read them: three digits and a unit. Decimal prefixes for FLOPs, binary ones for memory."""

from __future__ import annotations

_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_COUNTS = ("", "k", "M", "B", "T")
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_HOUR = 3600.0


def flops(value: float) -> str:
    """As "27.4 GFLOP"."""
    number, prefix = _scaled(value, 1000, _DECIMAL)
    return f"{number} {prefix}FLOP"


def flops_per_s(value: float) -> str:
    """As "312 TFLOP/s"."""
    return f"{flops(value)}/s"


def memory(value: float) -> str:
    """As "86.6 MiB"."""
    number, unit = _scaled(value, 1024, _BINARY)
    return f"{number} {unit}"


def bytes_per_s(value: float) -> str:
    """As "2.04 TB/s": data sheets give bandwidths with decimal prefixes."""
    number, prefix = _scaled(value, 1000, _DECIMAL)
    return f"{number} {prefix}B/s"


def count(value: float) -> str:
    """As "22.7M" or "8.03B", for parameters and tokens."""
    number, prefix = _scaled(value, 1000, _COUNTS)
    return f"{number}{prefix}"


def seconds(value: float) -> str:
    """As "3.21 ms"; from two hours up in hours."""
    if value >= 2 * _HOUR:
        return f"{_three_digits(value / _HOUR)} h"
    for size, unit in _TIMES:
        if value >= 0.9995 * size or unit == "ns":
            return f"{_three_digits(value / size)} {unit}"
    raise AssertionError("the last unit takes every value")


def share(value: float) -> str:
    """As "12.3 %"."""
    percent = 100 * value
    if 0 < percent < 0.05:
        return "<0.1 %"
    return f"{percent:.1f} %"


def dollars(value: float) -> str:
    """As "$0.0123"."""
    return f"${_three_digits(value)}" if value < 1000 else f"${value:,.0f}"


def rate(value: float) -> str:
    """As "1,234" or "12.3"."""
    return f"{value:,.0f}" if value >= 1000 else _three_digits(value)


def times(value: float) -> str:
    """A ratio, as "1.50"."""
    return f"{value:.2f}" if value < 9.995 else _three_digits(value)


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> tuple[str, str]:
    power = 0
    while value >= base * (1 - 5e-4) and power < len(prefixes) - 1:
        value /= base
        power += 1
    # Whole numbers stay whole as long as no prefix was needed.
    return (f"{value:.0f}" if power == 0 and value == int(value) else _three_digits(value)), prefixes[power]


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    if value >= 0.0995:
        return f"{value:.2f}"
    return f"{value:.3g}"
