r"""Lab colour transfer: gives frames the colour statistics of a picture.

Per frame and Lab channel, over all pixels (FlashHead, utils.py):

  c' = (c - mean_frame) std_reference / std_frame + mean_reference         (1)
  out = (1 - strength) rgb + strength rgb(c'), rgb(c') within [0, 1]       (2)

Lab with the D65 white point through linear sRGB. Everything is float32 and has
finite gradients: powers and roots never see zero in the branch not taken.
Inside, channels are the first axis: planes, which a CPU goes through in less
than half the time that it takes for pixels of three values.
"""

import jax
import jax.numpy as jnp
import numpy as np

_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ],
    np.float32,
)
_WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
# XYZ in units of white.
_TO_XYZ = _RGB_TO_XYZ / _WHITE[:, None]
_FROM_XYZ = np.linalg.inv(_TO_XYZ.astype(np.float64)).astype(np.float32)
_BLACK = 1e-8  # of XYZ
_EPSILON = 0.008856
_KAPPA = 903.3
_FLAT = 1e-8  # standard deviation below which a channel counts as constant


def rgb_to_lab(rgb: jax.Array) -> jax.Array:
  """sRGB [..., 3] -> Lab, L in [0, 100].

  Colours beyond [0, 1] are kept as far as XYZ stays within black and white, as
  in the original: FlashHead corrects what the LTX decoder gives unclamped.
  """
  return jnp.moveaxis(_planes_to_lab(jnp.moveaxis(rgb, -1, 0)), 0, -1)


def lab_to_rgb(lab: jax.Array) -> jax.Array:
  """Lab [..., 3] -> sRGB, clipped to [0, 1]."""
  return jnp.moveaxis(_planes_to_rgb(jnp.moveaxis(lab, -1, 0)), 0, -1)


def transfer(
    video: jax.Array, reference: jax.Array, strength: float | jax.Array
) -> jax.Array:
  """Colour-corrected video, equations (1) and (2).

  Args:
    video: [B, F, H, W, 3] in about [-1, 1].
    reference: [B, H, W, 3] in [-1, 1], the identity reference.
    strength: 0 (no change) to 1 (statistics of the reference).

  Returns:
    [B, F, H, W, 3]; in [-1, 1] for such a video, or at strength 1.
  """
  rgb = jnp.moveaxis(0.5 * video + 0.5, -1, 0)
  target = _planes_to_lab(jnp.moveaxis(0.5 * reference + 0.5, -1, 0))
  lab = _planes_to_lab(rgb)
  mean, std = _statistics(lab)
  wanted_mean, wanted_std = _statistics(target[:, :, None])
  scale = wanted_std / jnp.where(std < _FLAT, 1.0, std)
  corrected = _planes_to_rgb((lab - mean) * scale + wanted_mean)
  mixed = (1.0 - strength) * rgb + strength * corrected
  return jnp.moveaxis(2.0 * mixed - 1.0, 0, -1)


def _planes_to_lab(rgb: jax.Array) -> jax.Array:
  """`rgb_to_lab` of [3, ...]."""
  steep = rgb > 0.04045
  safe = jnp.where(steep, rgb, 1.0)
  linear = jnp.where(steep, _power((safe + 0.055) / 1.055, 2.4), rgb / 12.92)
  xyz = jnp.clip(_mix(_TO_XYZ, linear), _BLACK, 1.0)
  large = xyz > _EPSILON
  root = _power(jnp.where(large, xyz, 1.0), 1 / 3)
  x, y, z = jnp.where(large, root, (_KAPPA * xyz + 16.0) / 116.0)
  return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)])


def _planes_to_rgb(lab: jax.Array) -> jax.Array:
  """`lab_to_rgb` of [3, ...]."""
  y = (lab[0] + 16.0) / 116.0
  f = jnp.stack([lab[1] / 500.0 + y, y, y - lab[2] / 200.0])
  cube = f * f * f
  xyz = jnp.where(cube > _EPSILON, cube, (116.0 * f - 16.0) / _KAPPA)
  linear = _mix(_FROM_XYZ, xyz)
  steep = linear > 0.0031308
  safe = jnp.where(steep, linear, 1.0)
  curved = 1.055 * _power(safe, 1 / 2.4) - 0.055
  return jnp.clip(jnp.where(steep, curved, 12.92 * linear), 0.0, 1.0)


def _statistics(lab: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean and population standard deviation over H and W, axes kept."""
  mean = lab.mean((-2, -1), keepdims=True)
  variance = jnp.square(lab - mean).mean((-2, -1), keepdims=True)
  varies = variance > _FLAT**2
  # The square root has no finite gradient at zero.
  std = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 0.0)
  return mean, std


def _power(x: jax.Array, exponent: float) -> jax.Array:
  """x ** exponent of x > 0. On CPU, XLA's own power and its cube root take
  several times as long, and most of the time of a correction."""
  return jnp.exp(exponent * jnp.log(x))


def _mix(matrix: np.ndarray, planes: jax.Array) -> jax.Array:
  """matrix @ planes; products, because matmuls may default to less than
  float32."""
  return jnp.stack([sum(w * p for w, p in zip(row, planes)) for row in matrix])
