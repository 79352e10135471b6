import subprocess
import sys

import pytest

GROWTH = """
import sys, torch
from iqazoo.train.memory import keep_freed

def resident():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096

if sys.argv[1] == "kept":
    keep_freed()
before = resident()
several = [torch.ones(1 << 18) for _ in range(200)]
del several
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone has the setting")
def test_freed_memory_is_kept():
    growth = {
        how: int(subprocess.run([sys.executable, "-c", GROWTH, how], check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "given back")
    }
    assert growth["kept"] > 190 << 20
    assert growth["given back"] < 50 << 20
