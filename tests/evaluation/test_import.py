from __future__ import annotations

import subprocess
import sys


def test_something_small_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import fer_lightning.evaluation, fer_lightning.files, fer_lightning.text; "
        "sys.exit(', '.join({'torch', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
