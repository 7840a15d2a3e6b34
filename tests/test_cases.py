"""Which inputs parity is proved on."""

from __future__ import annotations

import numpy as np
import pytest

from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.photos import parity_photos

PHOTOS = {"astronaut", "chelsea", "coffee", "rocket"}
PATTERNS = {"black", "white", "step edge", "checkerboard", "stripes", "coloured stripes"}


def test_cases_cover_what_the_design_asks_for() -> None:
    cases = parity_cases(parity_photos(), shapes=[(1, 30, 20)])
    names = {case.name for case in cases}
    assert names == {"noise", "astronaut beyond 0 to 1"} | PATTERNS | PHOTOS
    assert {case.name for case in cases if not case.drawn} == PHOTOS
    shapes = {case.lr.shape for case in cases}
    assert {(1, 3, 1, 1), (1, 3, 30, 20)} < shapes
    assert any(shape[0] == 2 for shape in shapes)
    assert any(shape[2] % 2 and shape[3] % 2 and shape[2] != shape[3] for shape in shapes)
    assert all(case.lr.dtype == np.float32 and case.lr.flags.writeable for case in cases)
    within = [case for case in cases if "beyond" not in case.name]
    assert all(0 <= case.lr.min() <= case.lr.max() <= 1 for case in within)


def test_one_case_leaves_the_range_on_both_sides_as_videos_do() -> None:
    (beyond,) = (case for case in parity_cases(parity_photos()) if "beyond" in case.name)
    assert beyond.lr.min() < -0.05
    assert beyond.lr.max() > 1.05
    assert -0.25 <= beyond.lr.min() <= beyond.lr.max() <= 1.25


def test_stripes_are_one_pixel_wide_and_the_coloured_ones_are_no_grey() -> None:
    cases = {case.name: case.lr for case in parity_cases(parity_photos())}
    stripes, coloured = cases["stripes"], cases["coloured stripes"]
    assert np.array_equal(stripes[..., 1:], 1 - stripes[..., :-1])
    assert np.array_equal(coloured[:, 0, :, 1:], coloured[:, 1, :, :-1])
    assert not np.array_equal(coloured[:, 0], coloured[:, 1])
    assert np.array_equal(coloured.sum(axis=1), np.ones_like(coloured[:, 0]))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_networks_of_other_channels_see_photos_too(channels: int) -> None:
    cases = parity_cases(parity_photos(), in_chans=channels)
    photos = [case for case in cases if case.name in PHOTOS]
    assert {case.name for case in photos} == PHOTOS
    assert {case.lr.shape[1] for case in cases} == {channels}
    grey = parity_photos()[0][1].mean(axis=1, keepdims=True)
    if channels == 1:
        assert np.allclose(photos[0].lr, grey, atol=1e-6)
    # Rocket's crop is mostly sky.
    assert all(case.lr.std() > 0.005 for case in photos)


def test_static_cases_have_that_one_shape() -> None:
    cases = parity_cases(parity_photos(), static=(2, 3, 70, 50))
    assert {case.lr.shape for case in cases} == {(2, 3, 70, 50)}
    assert {case.name for case in cases} == {"noise", "astronaut beyond 0 to 1"} | PATTERNS | PHOTOS
