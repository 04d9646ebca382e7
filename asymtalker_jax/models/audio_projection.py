"""Audio features -> context tokens, one group per latent frame."""

from flax import linen as nn
import jax
import jax.numpy as jnp

WINDOW = 5
# Entries of a 5-window f-2 .. f+2 that a frame contributes to its group.
_FIRST, _MIDDLE, _LAST = slice(0, 3), slice(2, 3), slice(2, 5)
# torch's default; the public checkpoints were trained with it.
_EPS = 1e-5


def group_windows(
    audio: jax.Array, temporal_stride: int
) -> tuple[jax.Array, jax.Array]:
  """Groups windows of video frames by the latent frame that covers them.

  The first latent frame covers one video frame and keeps its window. Every
  later one covers s_t frames: their windows overlap, so the first gives
  entries 0..2, the middle ones entry 2 and the last entries 2..4, together
  the s_t + 4 frames around the group (docs/method.md section 4).

  Args:
    audio: [B, F, 5, L, A] windowed features, F = 1 + n s_t.
    temporal_stride: s_t, at least 2.

  Returns:
    first [B, 5, L, A] and later [B, n, s_t + 4, L, A].
  """
  b, frames, window, layers, channels = audio.shape
  if window != WINDOW or (frames - 1) % temporal_stride:
    raise ValueError(
        f'audio of {frames} frames with windows of {window}: expected'
        f' 1 + n * {temporal_stride} frames with windows of {WINDOW}.'
    )
  groups = audio[:, 1:].reshape(
      b, -1, temporal_stride, window, layers, channels
  )
  later = jnp.concatenate(
      [
          groups[:, :, 0, _FIRST],
          groups[:, :, 1:-1, _MIDDLE].reshape(
              b, groups.shape[1], temporal_stride - 2, layers, channels
          ),
          groups[:, :, -1, _LAST],
      ],
      axis=2,
  )
  return audio[:, 0], later


class AudioProjection(nn.Module):
  """MLP from a group of audio features to tokens of the DiT's width.

  Attributes:
    width: D.
    hidden: width of the two hidden layers.
    tokens: context tokens per latent frame.
    temporal_stride: s_t, video frames per latent frame.
    dtype: of the matrix products' inputs.
  """

  width: int
  hidden: int
  tokens: int
  temporal_stride: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, audio: jax.Array) -> jax.Array:
    """Projects windowed features.

    Args:
      audio: [B, F, 5, L, A]; zeros are the null audio.

    Returns:
      [B, T, tokens, D] float32.
    """

    def dense(features, name):
      # The biases must not start at zero: null audio would reach the layer
      # norm as exact zeros, where its gradient is 1 / sqrt(eps).
      return nn.Dense(
          features,
          dtype=self.dtype,
          bias_init=nn.initializers.normal(0.02),
          name=name,
      )

    first, later = group_windows(audio, self.temporal_stride)
    b, n = later.shape[:2]
    first = dense(self.hidden, 'first')(first.reshape(b, 1, -1))
    later = dense(self.hidden, 'later')(later.reshape(b, n, -1))
    x = nn.relu(jnp.concatenate([first, later], axis=1))
    x = nn.relu(dense(self.hidden, 'hidden')(x))
    x = dense(self.tokens * self.width, 'tokens')(x)
    x = x.reshape(b, n + 1, self.tokens, self.width)
    return nn.LayerNorm(
        epsilon=_EPS, dtype=jnp.float32, use_fast_variance=False, name='norm'
    )(x)
