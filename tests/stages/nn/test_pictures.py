"""Pictures side by side, and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from stages.nn.pictures import save_png, sheet


def test_a_sheet_has_its_columns_side_by_side(tmp_path: Path) -> None:
    """Two columns of three pictures, 4 high and 5 wide, each of a colour of its own."""
    numbers = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1)
    made = sheet(np.broadcast_to(numbers, (2, 3, 4, 5, 3)))
    assert made.shape == (12, 10, 3)
    expected = [[0, 3], [1, 4], [2, 5]]
    np.testing.assert_array_equal(made[::4, ::5, 0], expected)
    np.testing.assert_array_equal(made[3::4, 4::5, 2], expected)
    save_png(made, tmp_path / "samples" / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "samples" / "a.png")), made)
