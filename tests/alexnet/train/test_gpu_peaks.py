import pytest

from alexnet.train.gpu_peaks import peak_flop_per_s


@pytest.mark.parametrize(
    ("name", "bf16", "tf32", "fp32"),
    [
        ("NVIDIA H200", 989.4e12, 494.7e12, 66.9e12),
        ("NVIDIA H100 80GB HBM3", 989.4e12, 494.7e12, 66.9e12),
        ("NVIDIA H100 PCIe", 756e12, 378e12, 51.2e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 156e12, 19.5e12),
        ("NVIDIA A100-PCIE-40GB", 312e12, 156e12, 19.5e12),
        ("NVIDIA A100 80GB PCIe", 312e12, 156e12, 19.5e12),
        ("NVIDIA L4", 121e12, 60e12, 30.3e12),
        ("NVIDIA L40S", 362.05e12, 183e12, 91.6e12),
        ("Tesla V100-SXM2-16GB", None, 15.7e12, 15.7e12),
        ("Tesla T4", None, 8.1e12, 8.1e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None, None, None),
        ("NVIDIA T400 4GB", None, None, None),
        ("NVIDIA GeForce RTX 4090", None, None, None),
    ],
)
def test_the_peak_of_a_device(
    name: str, bf16: float | None, tf32: float | None, fp32: float | None
) -> None:
    for precision, peak in {"bf16": bf16, "tf32": tf32, "fp32": fp32}.items():
        found = peak_flop_per_s(name, precision)  # type: ignore[arg-type]  # a key of these
        assert found == (None if peak is None else pytest.approx(peak))
