"""PSNR, masked PSNR and SSIM with known answers."""

import numpy as np
import pytest

from asymtalker_jax.evals import fidelity

SHAPE = (6, 32, 32, 3)


def _still_clip() -> np.ndarray:
  frame = np.random.default_rng(0).integers(40, 200, SHAPE[1:], np.uint8)
  return np.repeat(frame[None], SHAPE[0], axis=0)


def test_psnr_of_known_errors():
  truth = _still_clip()
  assert fidelity.psnr(fidelity.squared_error(truth, truth).mean()) == 100.0
  error = fidelity.squared_error(truth + np.uint8(5), truth).mean()
  np.testing.assert_allclose(
      fidelity.psnr(error), 20 * np.log10(255 / 5), rtol=1e-6
  )


def test_psnr_of_known_noise():
  truth = np.full((20, 64, 64, 3), 128, np.uint8)
  noise = np.random.default_rng(0).normal(0, 10, truth.shape)
  noisy = np.clip(np.rint(truth + noise), 0, 255).astype(np.uint8)
  got = fidelity.psnr(fidelity.squared_error(noisy, truth).mean())
  np.testing.assert_allclose(got, 20 * np.log10(255 / 10), atol=0.05)


def test_still_mask_leaves_out_what_moves():
  truth = _still_clip()
  truth[:, :8] = np.arange(SHAPE[0], dtype=np.uint8)[:, None, None, None] * 20
  mask = fidelity.still_mask(truth)
  assert not mask[:8].any() and mask[8:].all()


def test_errors_stay_where_they_are():
  truth = _still_clip()
  frames = truth.copy()
  frames[0, :16, :, 1] += 6
  found = fidelity.squared_error(frames, truth)
  # One of 6 frames, one of 3 channels.
  np.testing.assert_array_equal(found[:16], 6**2 / 6 / 3)
  np.testing.assert_array_equal(found[16:], 0.0)


def test_ssim_is_one_for_equal_frames_and_falls_with_noise():
  frame = _still_clip()[0]
  rng = np.random.default_rng(1)
  values = [1.0]
  for scale in (5, 20, 60):
    noisy = np.clip(frame + rng.normal(0, scale, frame.shape), 0, 255)
    values.append(fidelity.ssim(noisy.astype(np.uint8), frame))
  np.testing.assert_allclose(fidelity.ssim(frame, frame), 1.0, atol=1e-6)
  assert values == sorted(values, reverse=True)


def test_ssim_of_constant_frames_is_the_luminance_term():
  x, y = np.full(SHAPE[1:], 100, np.uint8), np.full(SHAPE[1:], 150, np.uint8)
  c1 = (0.01 * 255) ** 2
  expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
  np.testing.assert_allclose(fidelity.ssim(x, y), expected, rtol=1e-3)


def test_wrong_shapes_are_refused():
  truth = _still_clip()
  with pytest.raises(ValueError, match='shape of ground truth'):
    fidelity.squared_error(truth[:3], truth)
