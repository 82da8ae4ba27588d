"""The table of data sheets, and the names that find its devices."""

import pytest

from ridgeline_estimate.datasheets import DATA_SHEETS, find_device
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.precision import DTYPE_BYTES


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("h100", "H100 SXM"),
        ("H100 SXM", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("h100-nvl", "H100 NVL"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
        ("a100", "A100 SXM 80GB"),
        ("rtx4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("Tesla T4", "T4"),
        ("l40s", "L40S"),
        ("l4", "L4"),
        ("xeon 8480+", "Xeon Platinum 8480+"),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", "Xeon Platinum 8380"),
        ("AMD EPYC 7763 64-Core Processor", "EPYC 7763"),
        ("graviton 3", "Graviton3"),
        ("m2pro", "Apple M2 Pro"),
        ("Apple M4", "Apple M4"),
    ],
)
def test_a_device_is_found_by_its_many_names(name: str, found: str) -> None:
    assert find_device(name).name == found


@pytest.mark.parametrize("name", list(DATA_SHEETS))
def test_every_device_is_found_by_the_name_that_it_is_shown_with(name: str) -> None:
    assert find_device(name) is DATA_SHEETS[name]
    assert find_device(name.lower().replace(" ", "-")) is DATA_SHEETS[name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "B200",
        "L40",
        "A10G",
        "H100 80GB HBM3 MIG 1g.10gb",
        "RTX 4090 D",
        "RTX 4090 Laptop GPU",
        "M4 Max",
        "M2 Ultra",
    ],
)
def test_a_device_that_is_not_in_the_table_is_never_taken_for_another(name: str) -> None:
    with pytest.raises(EstimateError, match=r"is unknown; known .*H100 SXM.*`ridgeline devices --calibrate`"):
        find_device(name)


def test_rates_are_dense() -> None:
    """NVIDIA's sheets of Hopper and L4 give matrix rates with sparsity: a dense product reaches half of them."""
    assert DATA_SHEETS["H100 SXM"].peak("bf16").flops_per_s == pytest.approx(989.5e12)
    assert DATA_SHEETS["H100 SXM"].peak("fp8").flops_per_s == pytest.approx(1979e12)
    assert DATA_SHEETS["L4"].peak("fp16").flops_per_s == pytest.approx(121e12)
    assert DATA_SHEETS["A100 SXM 80GB"].peak("bf16").flops_per_s == pytest.approx(312e12)
    assert DATA_SHEETS["A10"].peak("int8").flops_per_s == pytest.approx(250e12)
    assert "halved" in DATA_SHEETS["H100 SXM"].peak("bf16").source


def test_rates_of_cpus_follow_from_the_formula_in_their_source() -> None:
    peak = DATA_SHEETS["Xeon Platinum 8480+"].peak("bf16")
    assert peak.flops_per_s == pytest.approx(56 * 2.0e9 * 1024)
    for part in ("56 cores", "2 GHz", "1024 operations", "AMX", "Intel ARK"):
        assert part in peak.source


@pytest.mark.parametrize("device", DATA_SHEETS.values(), ids=lambda device: device.name)
def test_every_figure_has_a_source_and_a_plausible_size(device) -> None:
    assert set(device.peaks) <= set(DTYPE_BYTES)
    assert all(peak.dtype == dtype and peak.source and peak.measured_at is None for dtype, peak in device.peaks.items())
    assert device.bandwidth is not None and 5e10 < device.bandwidth.bytes_per_s < 1e13
    rates = [device.peaks[dtype].flops_per_s for dtype in ("fp32", "fp16", "fp8") if dtype in device.peaks]
    assert rates == sorted(rates)


def test_a_figure_that_no_sheet_gives_is_unknown() -> None:
    with pytest.raises(EstimateError, match="fp8 peak of A100 SXM 80GB is not known"):
        DATA_SHEETS["A100 SXM 80GB"].peak("fp8")
    assert not DATA_SHEETS["Apple M2"].peaks
