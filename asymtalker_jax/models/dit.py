"""The diffusion transformer of FlashHead / Wan 2.1, at any size.

Tokens are kept as [B, T, P, D]: latent frame and position in the frame. That
is what the per-frame modulation and the per-frame audio cross-attention need.
On a mesh B lies over data x fsdp and P over seq.

Sources: Wan 2.1 (arXiv 2503.20314) for the blocks, SoulX-FlashHead for the
reference channels and the audio cross-attention; docs/method.md, sections 1, 2
and 4.
"""

import dataclasses
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from asymtalker_jax import types
from asymtalker_jax.models import rope
from asymtalker_jax.models.attention import MultiHeadAttention
from asymtalker_jax.models.attention import SAVED
from asymtalker_jax.models.audio_projection import AudioProjection
from asymtalker_jax.models.embeddings import MATRIX
from asymtalker_jax.models.embeddings import patchify
from asymtalker_jax.models.embeddings import TextEmbedding
from asymtalker_jax.models.embeddings import TimeEmbedding
from asymtalker_jax.models.embeddings import unpatchify
from asymtalker_jax.parallel import sharding

# What a block keeps for the backward pass; the rest is computed again.
REMAT = {
    'none': None,
    'full': jax.checkpoint_policies.nothing_saveable,
    'dots': jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(SAVED),
    ),
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig:
  """Sizes of a DiT.

  Attributes:
    width: D, of every token.
    depth: number of blocks.
    heads: N; D / N must be even.
    ffn: hidden width of the feed-forward layers.
    patch: (1, ph, pw) latent cells per token. Tokens never mix latent frames:
      timesteps and audio are per latent frame.
    latent_channels: C of the noisy and of the reference latents.
    frequency_dim: channels of the timestep sinusoid.
    temporal_stride: s_t, video frames per latent frame after the first.
    audio_layers: L.
    audio_channels: A.
    audio_hidden: hidden width of the audio projection.
    audio_tokens: context tokens per latent frame.
    eps: of the norms in blocks and head.
    remat: 'none' keeps all activations for the backward pass, 'full' only the
      input of each block, 'dots' the results of linear layers and attention.
    dtype: 'float32' or 'bfloat16', of the inputs of matrix products.
    cross_attention: 'audio' is the talking head; 'text' is plain Wan 2.1,
      without reference channels, for its checkpoints.
    text_dim: width of the text encoder, for cross_attention 'text' only.
    per_frame_timestep: continuity slots, which carry no noise, get timestep 0
      and not that of the chunk. Who calls the network makes it so
      (`variants.Networks.velocity`).
  """

  width: int
  depth: int
  heads: int
  ffn: int
  latent_channels: int
  patch: tuple[int, int, int] = (1, 2, 2)
  frequency_dim: int = 256
  temporal_stride: int = 4
  audio_layers: int = 12
  audio_channels: int = 768
  audio_hidden: int = 512
  audio_tokens: int = 32
  eps: float = 1e-6
  remat: str = 'full'
  dtype: str = 'float32'
  cross_attention: str = 'audio'
  text_dim: int = 4096
  per_frame_timestep: bool = False

  def __post_init__(self):
    # From JSON the patch is a list; linen needs hashable attributes.
    object.__setattr__(self, 'patch', tuple(self.patch))
    for field, choices in (
        ('remat', REMAT),
        ('dtype', DTYPES),
        ('cross_attention', ('audio', 'text')),
    ):
      value = getattr(self, field)
      if value not in choices:
        raise ValueError(
            f'DiT {field}={value!r}: expected one of {", ".join(choices)}.'
        )
    if self.width % self.heads:
      raise ValueError(
          f'DiT width {self.width}: expected a multiple of heads={self.heads}.'
      )
    rope.split(self.width // self.heads)
    if len(self.patch) != 3 or self.patch[0] != 1:
      raise ValueError(f'DiT patch {self.patch}: expected (1, ph, pw).')
    if self.temporal_stride < 2:
      raise ValueError(
          f'DiT temporal_stride {self.temporal_stride}: expected at least 2.'
      )

  @property
  def compute_dtype(self) -> jnp.dtype:
    return DTYPES[self.dtype]


def _layer_norm(x: jax.Array, eps: float) -> jax.Array:
  """Layer norm without parameters, float32."""
  x = x - x.mean(axis=-1, keepdims=True)
  return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def _modulate(x, shift, scale, eps):
  return _layer_norm(x, eps) * (1 + scale) + shift


def _modulation_init(key, shape, dtype=jnp.float32):
  """N(0, 1 / D) entries, as in Wan 2.1."""
  return jax.random.normal(key, shape, dtype) * shape[-1] ** -0.5


class Block(nn.Module):
  """Self-attention, cross-attention, feed-forward."""

  config: DiTConfig

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      modulation: jax.Array,
      rotation: tuple[jax.Array, jax.Array],
      context: jax.Array,
  ) -> tuple[jax.Array, None]:
    """One block.

    Args:
      x: [B, T, P, D] float32 tokens.
      modulation: [B, T or 1, 6, D] of the time embedding.
      rotation: cos, sin [T, P, D / N / 2].
      context: [B, G, S, D]: the tokens of x in G equal groups along time see
        the S context tokens of their own group. G = T for audio, 1 for text.

    Returns:
      [B, T, P, D] float32 and None (the calling convention of a scan).
    """
    cfg, dtype = self.config, self.config.compute_dtype
    d = x.shape[-1]
    # Pinned: otherwise XLA may move activations instead of gathering weights.
    x = sharding.constrain_activation(x, seq_axis=2)
    learned = self.param('modulation', _modulation_init, (6, d))
    shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(
        modulation + learned, 6, axis=2
    )
    attend = functools.partial(
        MultiHeadAttention, d, cfg.heads, cfg.eps, dtype
    )

    y = _modulate(x, shift1, scale1, cfg.eps)
    x = x + gate1 * attend(name='self_attention')(y, rotation=rotation)

    y = nn.LayerNorm(
        epsilon=cfg.eps,
        dtype=jnp.float32,
        use_fast_variance=False,
        name='cross_norm',
    )(x)
    x = x + attend(name='cross_attention')(y, context)

    y = _modulate(x, shift2, scale2, cfg.eps)
    y = nn.Dense(cfg.ffn, dtype=dtype, kernel_init=MATRIX, name='ffn_in')(y)
    y = nn.gelu(y, approximate=True)
    y = nn.Dense(d, dtype=dtype, kernel_init=MATRIX, name='ffn_out')(y)
    x = sharding.constrain_activation(x + gate2 * y, seq_axis=2)
    return x, None


class Head(nn.Module):
  """Tokens -> patches of velocity, float32; zero at initialisation."""

  config: DiTConfig

  @nn.compact
  def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
    """x [B, T, P, D], embedding [B, T or 1, D] -> [B, T, P, ph pw C]."""
    cfg = self.config
    learned = self.param('modulation', _modulation_init, (2, cfg.width))
    shift, scale = jnp.split(embedding[:, :, None] + learned, 2, axis=2)
    x = _modulate(x, shift, scale, cfg.eps)
    return nn.Dense(
        cfg.patch[1] * cfg.patch[2] * cfg.latent_channels,
        dtype=cfg.compute_dtype,
        kernel_init=nn.initializers.zeros,
        name='linear',
    )(x).astype(jnp.float32)


class DiT(nn.Module):
  """Velocity network.

  Params: patch_embedding, time_embedding, audio_projection (or
  text_embedding), blocks (every leaf stacked over depth), head.
  """

  config: DiTConfig

  def setup(self):
    cfg = self.config
    self.patch_embedding = nn.Dense(
        cfg.width, dtype=cfg.compute_dtype, kernel_init=MATRIX
    )
    self.time_embedding = TimeEmbedding(cfg.width, cfg.frequency_dim)
    if cfg.cross_attention == 'audio':
      self.audio_projection = AudioProjection(
          cfg.width,
          cfg.audio_hidden,
          cfg.audio_tokens,
          cfg.temporal_stride,
          cfg.compute_dtype,
      )
    else:
      self.text_embedding = TextEmbedding(cfg.width, cfg.compute_dtype)
    block = Block
    if cfg.remat != 'none':
      block = nn.remat(Block, policy=REMAT[cfg.remat], prevent_cse=False)
    self.blocks = nn.scan(
        block,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=nn.broadcast,
        length=cfg.depth,
    )(cfg)
    self.head = Head(cfg)

  def tokens(
      self, x: jax.Array, reference: jax.Array | None = None
  ) -> jax.Array:
    """[B, T, H, W, C] latents, noisy and reference -> [B, T, P, D] float32."""
    if self.config.cross_attention == 'audio':
      x = jnp.concatenate([x, reference], axis=-1)
    x = self.patch_embedding(patchify(x, self.config.patch))
    return x.astype(jnp.float32)

  def time(self, timestep: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B] or [B, T] -> embedding [B, 1|T, D], modulation [B, 1|T, 6, D]."""
    if timestep.ndim == 1:
      timestep = timestep[:, None]
    return self.time_embedding(timestep)

  def context(
      self, audio: jax.Array | None = None, text: jax.Array | None = None
  ) -> jax.Array:
    """Audio [B, F, 5, L, A] -> [B, T, S, D]; text [B, S, .] -> [B, 1, S, D]."""
    if self.config.cross_attention == 'audio':
      return self.audio_projection(audio)
    return self.text_embedding(text)[:, None]

  def __call__(
      self,
      x: jax.Array,
      timestep: jax.Array,
      reference: jax.Array | None = None,
      audio: jax.Array | None = None,
      text: jax.Array | None = None,
  ) -> jax.Array:
    """Velocity of noisy latents.

    Args:
      x: [B, T, H, W, C] noisy latents.
      timestep: [B] or, one per latent frame, [B, T]; float32 in [0, 1000].
      reference: [B, T, H, W, C] reference latents.
      audio: [B, F, 5, L, A] windowed features of the F = 1 + (T - 1) s_t
        video frames; zeros are the null audio.
      text: [B, S, text_dim] instead of reference and audio where the config
        says cross_attention 'text'.

    Returns:
      [B, T, H, W, C] float32.
    """
    cfg = self.config
    _, t, h, w, _ = x.shape
    y = self.tokens(x, reference)
    # Small, but XLA would spread them over the mesh in ways of its own.
    embedding, modulation, context = map(
        sharding.constrain_activation,
        (*self.time(timestep), self.context(audio, text)),
    )
    if context.shape[1] not in (1, t):
      raise ValueError(
          f'audio of {audio.shape[1]} frames for {t} latent frames: expected'
          f' {1 + (t - 1) * cfg.temporal_stride}.'
      )
    rotation = rope.rotation(
        cfg.width // cfg.heads, (t, h // cfg.patch[1], w // cfg.patch[2])
    )
    rotation = tuple(x.reshape(t, -1, x.shape[-1]) for x in rotation)
    y, _ = self.blocks(y, modulation, rotation, context)
    v = unpatchify(self.head(y, embedding), cfg.patch, (t, h, w))
    return sharding.constrain_activation(v)


def without_self_attention(params: types.Params, block: int) -> types.Params:
  """A weaker network: self-attention of one block adds nothing.

  Frames and places see each other less, so the network is less sure of what it
  denoises; guidance away from it is spatiotemporal skip guidance (Hyung et al.
  2024, arXiv 2411.18664).

  Args:
    params: of `DiT`.
    block: 0 to depth - 1.

  Raises:
    ValueError: no such block.
  """
  out = params['blocks']['self_attention']['out']
  depth = out['bias'].shape[0]
  if not 0 <= block < depth:
    raise ValueError(f'block {block}: expected 0 to {depth - 1}')
  silent = jax.tree.map(lambda x: jnp.asarray(x).at[block].set(0), out)
  attention = {**params['blocks']['self_attention'], 'out': silent}
  return {**params, 'blocks': {**params['blocks'], 'self_attention': attention}}
