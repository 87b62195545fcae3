"""The most that GPUs multiply, as their maker says."""

from typing import Final

from alexnet.settings import Precision

_TERA: Final = 1e12
_PEAKS: Final[tuple[tuple[str, float | None, float, float], ...]] = (
    ("H200 NVL", 835.5, 417.75, 60.0),
    ("H200", 989.4, 494.7, 66.9),
    ("H100 PCIe", 756.0, 378.0, 51.2),
    ("H100 NVL", 835.5, 417.75, 60.0),
    ("H100", 989.4, 494.7, 66.9),
    ("A100", 312.0, 156.0, 19.5),
    ("L40S", 362.05, 183.0, 91.6),
    ("L4", 121.0, 60.0, 30.3),
    ("A10", 125.0, 62.5, 31.2),
    ("V100", None, 15.7, 15.7),
    ("T4", None, 8.1, 8.1),
)
"""Words of the device's name; dense TFLOP/s in bf16, in tf32 and in fp32. Source: NVIDIA's data
sheets of these products, whose figures with sparsity are halved; the V100's is that of SXM2. Those
without bf16 emulate it, and those without TF32 multiply in float32."""


def peak_flop_per_s(device_name: str, precision: Precision) -> float | None:
    """Return the most dense operations a second of a GPU, or None where that is not known.

    Args:
        device_name: as `torch.cuda.get_device_name` has it.
        precision: of `train.precision`.
    """
    words = f" {device_name.replace('-', ' ')} "
    if " MIG " in words:  # a part of one
        return None
    for name, bf16, tf32, fp32 in _PEAKS:
        if f" {name} " in words:
            peak = {"bf16": bf16, "tf32": tf32, "fp32": fp32}[precision]
            return None if peak is None else peak * _TERA
    return None
