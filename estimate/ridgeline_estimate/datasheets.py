"""What makers say that their devices can do at most, each figure with the document that says so.

Rates are dense: where a sheet gives matrix rates with structured sparsity alone, they are halved here, and the source
says so. CPUs' sheets give no rates: theirs are cores x clock x operations per cycle of a core, at the base clock, which
a CPU keeps under the heaviest instructions. Memory is in units of 10⁹ bytes, as sheets give it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.hardware import Bandwidth, Device, Peak

_TERA, _GIGA = 1e12, 1e9
_SPARSE = "given with sparsity, halved"


def find_device(name: str) -> Device:
    """The device of that name, spelled as people and drivers do: "h100", "NVIDIA H100 80GB HBM3", "xeon 8480+".

    Raises EstimateError for one that is not in the table.
    """
    words = _words(name)
    for needed, found in _SPELLINGS:
        device = DATA_SHEETS[found]
        if not words & _OTHERS[device.kind] and all(_holds(words, word) for word in needed.split()):
            return device
    known = ", ".join(DATA_SHEETS)
    raise EstimateError(
        f"device '{name}' is unknown; known by their data sheets: {known}; measure another one, on it, with "
        "`ridgeline devices --calibrate`"
    )


def _words(name: str) -> frozenset[str]:
    """Its words in lower case, series and number apart: "RTX4090" → rtx, 4090; "A100-SXM4-40GB" → a100, sxm4, 40gb."""
    plain = re.sub(r"\((r|tm)\)|[®™]", " ", name.lower())
    plain = re.sub(r"(rtx|xeon|epyc|graviton|platinum|apple|(?<=m\d)(?=pro|max))[ -]?", r"\1 ", plain)
    return frozenset(re.findall(r"[a-z0-9+]+", plain))


def _holds(words: frozenset[str], wanted: str) -> bool:
    """wanted: a word, several of which any will do ("40gb|40"), or one that must be absent ("!max")."""
    return wanted[1:] not in words if wanted.startswith("!") else bool(words & set(wanted.split("|")))


def _gpu(
    name: str,
    sheet: str,
    memory_gb: float,
    bandwidth_gb: float,
    dense: Mapping[str, float],
    sparse: Mapping[str, float],
) -> Device:
    """dense, sparse: 10¹² operations per second by dtype, as the sheet gives them."""
    peaks = {dtype: Peak(rate * _TERA, dtype, sheet) for dtype, rate in dense.items()}
    peaks |= {
        dtype: Peak(rate * _TERA / 2, dtype, f"{sheet}: {rate:g} TFLOP/s {_SPARSE}") for dtype, rate in sparse.items()
    }
    return Device(name, "cuda", peaks, Bandwidth(bandwidth_gb * _GIGA, sheet), int(memory_gb * _GIGA))


def _cpu(
    name: str,
    sheet: str,
    cores: int,
    base_ghz: float,
    per_cycle: Mapping[str, tuple[int, str]],
    memory: tuple[int, int, str],
) -> Device:
    """per_cycle: operations of a core by dtype, and the units that do them; memory: channels, 10⁶ transfers/s, kind."""
    peaks = {}
    for dtype, (operations, units) in per_cycle.items():
        formula = f"{cores} cores x {base_ghz:g} GHz (base) x {operations} operations per cycle ({units})"
        peaks[dtype] = Peak(cores * base_ghz * _GIGA * operations, dtype, f"{formula}; {sheet}")
    channels, transfers, kind = memory
    bytes_per_s = channels * transfers * 1e6 * 8
    source = f"{channels} channels x {kind}-{transfers} x 8 bytes; {sheet}"
    return Device(name, "cpu", peaks, Bandwidth(bytes_per_s, source))


def _apple(name: str, bandwidth_gb: float, release: str) -> Device:
    """Apple publishes no rates of its CPUs' matrix units: they are unknown until they are measured."""
    return Device(name, "cpu", {}, Bandwidth(bandwidth_gb * _GIGA, f"Apple's press release of {release}"))


def _a100(name: str, memory_gb: float, bandwidth_gb: float) -> Device:
    rates = {"fp32": 19.5, "tf32": 156, "bf16": 312, "fp16": 312, "int8": 624, "int4": 1248}
    return _gpu(name, "NVIDIA A100 data sheet", memory_gb, bandwidth_gb, rates, {})


_AVX512 = "two 512-bit FMA units"
_AVX2 = "two 256-bit FMA units"
_DEVICES = (
    _a100("A100 SXM 40GB", 40, 1555),
    _a100("A100 SXM 80GB", 80, 2039),
    _a100("A100 PCIe 40GB", 40, 1555),
    _a100("A100 PCIe 80GB", 80, 1935),
    _gpu(
        "H100 SXM", "NVIDIA H100 data sheet", 80, 3350,
        {"fp32": 67}, {"tf32": 989, "bf16": 1979, "fp16": 1979, "fp8": 3958, "int8": 3958},
    ),
    _gpu(
        "H100 PCIe", "NVIDIA H100 data sheet", 80, 2000,
        {"fp32": 51}, {"tf32": 756, "bf16": 1513, "fp16": 1513, "fp8": 3026, "int8": 3026},
    ),
    _gpu(
        "H100 NVL", "NVIDIA H100 data sheet, of one of its GPUs", 94, 3900,
        {"fp32": 60}, {"tf32": 835, "bf16": 1671, "fp16": 1671, "fp8": 3341, "int8": 3341},
    ),
    _gpu(
        "H200 SXM", "NVIDIA H200 data sheet", 141, 4800,
        {"fp32": 67}, {"tf32": 989, "bf16": 1979, "fp16": 1979, "fp8": 3958, "int8": 3958},
    ),
    _gpu(
        "H200 NVL", "NVIDIA H200 data sheet", 141, 4800,
        {"fp32": 60}, {"tf32": 835, "bf16": 1671, "fp16": 1671, "fp8": 3341, "int8": 3341},
    ),
    _gpu(
        "L4", "NVIDIA L4 data sheet", 24, 300,
        {"fp32": 30.3}, {"tf32": 120, "bf16": 242, "fp16": 242, "fp8": 485, "int8": 485},
    ),
    _gpu(
        "L40S", "NVIDIA L40S data sheet", 48, 864,
        {"fp32": 91.6, "tf32": 183, "bf16": 362.05, "fp16": 362.05, "fp8": 733, "int8": 733}, {},
    ),
    _gpu(
        "A10", "NVIDIA A10 data sheet", 24, 600,
        {"fp32": 31.2, "tf32": 62.5, "bf16": 125, "fp16": 125, "int8": 250, "int4": 500}, {},
    ),
    _gpu("T4", "NVIDIA T4 data sheet", 16, 300, {"fp32": 8.1, "fp16": 65, "int8": 130, "int4": 260}, {}),
    _gpu(
        "RTX 4090", "NVIDIA Ada GPU architecture white paper, sums of fp16 and fp8 kept in fp32", 24, 1008,
        {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2, "fp16": 165.2, "fp8": 330.3, "int8": 660.6, "int4": 1321.2}, {},
    ),
    _cpu(
        "Xeon Platinum 8380", "Intel ARK: Xeon Platinum 8380", 40, 2.3,
        {"fp32": (64, _AVX512), "int8": (256, "two 512-bit VNNI units")}, (8, 3200, "DDR4"),
    ),
    _cpu(
        "Xeon Platinum 8480+", "Intel ARK: Xeon Platinum 8480+", 56, 2.0,
        {
            "fp32": (64, _AVX512),
            "fp16": (128, _AVX512),
            "bf16": (1024, "AMX: a product 16x16x32 in 16 cycles"),
            "int8": (2048, "AMX: a product 16x16x64 in 16 cycles"),
        },
        (8, 4800, "DDR5"),
    ),
    _cpu(
        "EPYC 7763", "AMD EPYC 7003 data sheet", 64, 2.45, {"fp32": (32, _AVX2)}, (8, 3200, "DDR4"),
    ),
    _cpu(
        "EPYC 9654", "AMD EPYC 9004 data sheet", 96, 2.4,
        {"fp32": (32, _AVX2), "int8": (128, "two 256-bit VNNI units")}, (12, 4800, "DDR5"),
    ),
    _cpu(
        "Graviton3", "AWS on C7g instances, Arm Neoverse V1 Software Optimization Guide", 64, 2.6,
        {"fp32": (32, "two 256-bit SVE units"), "fp16": (64, "two 256-bit SVE units")}, (8, 4800, "DDR5"),
    ),
    _apple("Apple M1 Pro", 200, "2021-10-18"),
    _apple("Apple M1 Max", 400, "2021-10-18"),
    _apple("Apple M2", 100, "2022-06-06"),
    _apple("Apple M2 Pro", 200, "2023-01-17"),
    _apple("Apple M2 Max", 400, "2023-01-17"),
    _apple("Apple M4", 120, "2024-05-07"),
    _apple("Apple M4 Pro", 273, "2024-10-30"),
)  # fmt: skip

DATA_SHEETS: Mapping[str, Device] = {device.name: device for device in _DEVICES}

# Words that a name must hold, in any order, the special ones first. Of cards with two sizes of memory the larger one is
# meant unless the name says otherwise.
_SPELLINGS = (
    ("a100 pcie 40gb|40", "A100 PCIe 40GB"),
    ("a100 pcie", "A100 PCIe 80GB"),
    ("a100 40gb|40", "A100 SXM 40GB"),
    ("a100", "A100 SXM 80GB"),
    ("h100 nvl", "H100 NVL"),
    ("h100 pcie", "H100 PCIe"),
    ("h100", "H100 SXM"),
    ("h200 nvl", "H200 NVL"),
    ("h200", "H200 SXM"),
    ("l40s", "L40S"),
    ("l4", "L4"),
    ("a10", "A10"),
    ("t4", "T4"),
    ("4090", "RTX 4090"),
    ("8380", "Xeon Platinum 8380"),
    ("8480|8480+", "Xeon Platinum 8480+"),
    ("7763", "EPYC 7763"),
    ("9654", "EPYC 9654"),
    ("graviton 3", "Graviton3"),
    ("graviton3", "Graviton3"),
    ("m1 pro", "Apple M1 Pro"),
    ("m1 max", "Apple M1 Max"),
    ("m2 pro", "Apple M2 Pro"),
    ("m2 max", "Apple M2 Max"),
    ("m2", "Apple M2"),
    ("m4 pro", "Apple M4 Pro"),
    ("m4 !max", "Apple M4"),
)
# Words that make it another device than its number says: a slice of a GPU, a smaller chip of the same name.
_OTHERS = {
    "cuda": frozenset({"mig", "laptop", "mobile", "d", "ti", "super"}),
    "cpu": frozenset({"ultra", "tesla", "quadro", "gpu"}),
}
