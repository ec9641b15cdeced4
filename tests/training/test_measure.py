from pathlib import Path

import pytest
import torch

from selffilter.training.measure import peak_by_name, peak_flops, peak_memory_mb

H100, H200 = "NVIDIA H100 80GB HBM3", "NVIDIA H200"


@pytest.mark.parametrize(
    "name, precision, teraflops",
    [
        (H100, "bf16-mixed", 989.4), (H100, "bf16-true", 989.4), (H100, "32-true", 66.9),
        (H200, "bf16-mixed", 989.4), ("NVIDIA H200 NVL", "bf16-mixed", 835.5),
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 311.9), ("NVIDIA A100 80GB PCIe", "32-true", 19.5),
        ("NVIDIA L4", "bf16-mixed", 121.0), ("NVIDIA L40S", "bf16-mixed", 362.1),
    ],
)  # fmt: skip
def test_a_known_device_has_the_peak_of_its_data_sheet(name, precision, teraflops):
    assert peak_by_name(name, precision) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize("name", ["NVIDIA L40", "Tesla T4", "NVIDIA H100 80GB HBM3e-something", ""])
def test_an_unknown_device_has_none(name):
    assert peak_by_name(name, "bf16-mixed") is None


def test_a_cpu_has_none():
    assert peak_flops(torch.device("cpu"), "32-true") is None


def test_fp32_on_tensor_cores_is_not_compared_with_fp32_outside_them():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert peak_by_name(H100, "32-true") is None
        assert peak_by_name(H100, "bf16-mixed") is not None
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_the_memory_of_a_cpu_is_the_most_that_the_process_had_resident():
    status = Path("/proc/self/status").read_text()
    [kibibytes] = [int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line]
    assert peak_memory_mb(torch.device("cpu")) == pytest.approx(kibibytes * 1024 / 1e6, rel=0.02)
