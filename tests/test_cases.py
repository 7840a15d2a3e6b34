"""Which inputs parity is proved on."""

from __future__ import annotations

import numpy as np

from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.photos import parity_photos


def test_cases_cover_what_the_design_asks_for() -> None:
    cases = parity_cases(parity_photos(), shapes=[(1, 30, 20)])
    names = {case.name for case in cases}
    assert {"noise", "black", "white", "step edge", "checkerboard"} < names
    assert {"astronaut", "chelsea", "coffee", "rocket"} < names
    shapes = {case.lr.shape for case in cases}
    assert {(1, 3, 1, 1), (1, 3, 30, 20)} < shapes
    assert any(shape[0] == 2 for shape in shapes)
    assert any(shape[2] % 2 and shape[3] % 2 and shape[2] != shape[3] for shape in shapes)
    assert all(case.lr.dtype == np.float32 and 0 <= case.lr.min() <= case.lr.max() <= 1 for case in cases)


def test_static_cases_have_that_one_shape() -> None:
    cases = parity_cases(parity_photos(), static=(2, 3, 70, 50))
    assert {case.lr.shape for case in cases} == {(2, 3, 70, 50)}
    assert len({case.name for case in cases}) == 9
