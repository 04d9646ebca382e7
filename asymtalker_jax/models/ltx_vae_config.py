"""Sizes of the LTX video VAE, in the words of its original configuration."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from asymtalker_jax.models.causal_conv import ConvStyle
from asymtalker_jax.models.causal_conv import PADDINGS

# Kind of block -> multiplier where the configuration gives none; None where the
# kind keeps the width, whatever the configuration gives.
_ENCODER_KINDS = {
    'res_x': None,
    'res_x_y': 2,
    'compress_time': None,
    'compress_space': None,
    'compress_all': None,
    'compress_all_x_y': 2,
    'compress_time_res': 2,
    'compress_space_res': 2,
    'compress_all_res': 2,
}
_DECODER_KINDS = {
    'res_x': None,
    'res_x_y': 2,
    'compress_time': None,
    'compress_space': None,
    'compress_all': 1,
}
_STRIDES = {'time': (2, 1), 'space': (1, 2), 'all': (2, 2)}
_LTX_0_9_0 = (
    ('res_x', 4),
    ('compress_all', 1),
    ('res_x_y', 1),
    ('res_x', 3),
    ('compress_all', 1),
    ('res_x_y', 1),
    ('res_x', 3),
    ('compress_all', 1),
    ('res_x', 3),
    ('res_x', 4),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """One entry of a block list.

  Attributes:
    kind: as in the original configuration.
    num_layers: residual blocks of a 'res_x'.
    multiplier: ratio of the widths at its deep and at its shallow end.
    residual: whether a shortcut goes around upsampling.
    inject_noise: whether noise is added after each convolution of a 'res_x'.
  """

  kind: str
  num_layers: int = 1
  multiplier: float = 1
  residual: bool = False
  inject_noise: bool = False

  @property
  def stride(self) -> tuple[int, int]:
    """(time, space)."""
    word = self.kind.split('_')[1]
    return _STRIDES[word] if self.kind.startswith('compress_') else (1, 1)

  @property
  def noises(self) -> int:
    """Noise arrays that it takes."""
    return 2 * self.num_layers if self.inject_noise else 0

  def widen(self, width: int) -> int:
    """Width at the deep end of a block that is `width` at its shallow end."""
    return _whole(width * self.multiplier, self)

  def narrow(self, width: int) -> int:
    """Width at the shallow end of a block that is `width` at its deep end."""
    return _whole(width / self.multiplier, self)


def _whole(width: float, block: Block) -> int:
  if width < 0.5 or abs(round(width) - width) > 1e-6 * width:
    raise ValueError(
        f'{block.kind} with multiplier {block.multiplier} leads to a width of '
        f'{width}: expected a whole number'
    )
  return round(width)


def _parse(entry: Any, kinds: dict[str, int | None]) -> Block:
  """Block of ('res_x', 4), ('res_x', {'num_layers': 4}) or its own asdict."""
  if isinstance(entry, Block):
    return entry
  if isinstance(entry, Mapping):
    options = dict(entry)
    kind = options.pop('kind')
  else:
    kind, options = entry
  if kind not in kinds:
    raise ValueError(f'block {kind!r}: expected one of {sorted(kinds)}')
  if isinstance(options, int):
    options = {'num_layers': options}
  known = {f.name for f in dataclasses.fields(Block)} - {'kind'}
  if set(options) - known:
    raise ValueError(
        f'block {kind!r} with options {sorted(options)}: expected some of '
        f'{sorted(known)}'
    )
  read = {'res_x': {'num_layers', 'inject_noise'}, 'compress_all': {'residual'}}
  read = read.get(kind, set()) | ({'multiplier'} if kinds[kind] else set())
  if options.get('inject_noise') and 'inject_noise' not in read:
    raise ValueError(f"block {kind!r} with inject_noise: expected in 'res_x'")
  # Like the reference, a kind ignores the options that it has no use for.
  options = {k: v for k, v in options.items() if k in read}
  return Block(kind=kind, **{'multiplier': kinds[kind] or 1} | options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LtxVaeConfig:
  """Size of a VAE; the defaults are LTX-Video 0.9.0, which FlashHead Lite has.

  Attributes:
    encoder_blocks: (kind, number of layers or options) from pixels to latents,
      kept as `Block`s. A multiplier may be a ratio such as 1.5.
    decoder_blocks: likewise, also from pixels to latents: applied backwards.
    encoder_base_channels: width after the encoder's first convolution.
    decoder_base_channels: width before the decoder's last convolution.
    latent_channels: C.
    patch_size: pixels per side that are folded into channels.
    timestep_conditioning: whether `decode` takes a timestep.
    causal_decoder: whether decoded frames depend on earlier latents only.
    spatial_padding_mode: around frames, a key of `causal_conv.PADDINGS`.
    dtype: of convolution and matrix inputs; parameters and norms are float32.
  """

  encoder_blocks: tuple[Any, ...] = _LTX_0_9_0
  decoder_blocks: tuple[Any, ...] = _LTX_0_9_0
  encoder_base_channels: int = 128
  decoder_base_channels: int = 128
  latent_channels: int = 128
  patch_size: int = 4
  timestep_conditioning: bool = False
  causal_decoder: bool = False
  spatial_padding_mode: str = 'zeros'
  dtype: str = 'float32'

  def __post_init__(self):
    for name, kinds in (
        ('encoder_blocks', _ENCODER_KINDS),
        ('decoder_blocks', _DECODER_KINDS),
    ):
      blocks = tuple(_parse(entry, kinds) for entry in getattr(self, name))
      object.__setattr__(self, name, blocks)
    totals = [
        [math.prod(b.stride[i] for b in blocks) for i in (0, 1)]
        for blocks in (self.encoder_blocks, self.decoder_blocks)
    ]
    if totals[0] != totals[1]:
      raise ValueError(
          f'encoder_blocks have (time, space) strides {totals[0]}, '
          f'decoder_blocks {totals[1]}: expected the same'
      )
    if self.spatial_padding_mode not in PADDINGS:
      raise ValueError(
          f'spatial_padding_mode {self.spatial_padding_mode!r}: expected one '
          f'of {sorted(PADDINGS)}'
      )
    if self.dtype not in ('float32', 'bfloat16'):
      raise ValueError(f'dtype {self.dtype!r}: expected float32 or bfloat16')

  @property
  def deep_channels(self) -> int:
    """Width after the decoder's first convolution."""
    width = self.decoder_base_channels
    for block in self.decoder_blocks[::-1]:
      width = block.widen(width)
    return width

  @property
  def spatial_stride(self) -> int:
    """Pixels per latent cell."""
    return self.patch_size * math.prod(b.stride[1] for b in self.encoder_blocks)

  @property
  def temporal_stride(self) -> int:
    """s_t, video frames per latent frame after the first."""
    return math.prod(b.stride[0] for b in self.encoder_blocks)

  def style(self, causal: bool) -> ConvStyle:
    """What the convolutions of one side have in common."""
    return ConvStyle(causal, self.spatial_padding_mode, self.dtype)

  def check_video(self, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless video of this [B, F, H, W, 3] can be encoded."""
    if len(shape) != 5 or shape[-1] != 3:
      raise ValueError(f'video shape {shape}: expected [B, F, H, W, 3]')
    _, frames, height, width, _ = shape
    if frames < 1 or (frames - 1) % self.temporal_stride:
      stride = self.temporal_stride
      raise ValueError(
          f'{frames} video frames: expected 1 + a multiple of {stride}'
      )
    side = self.spatial_stride
    if height % side or width % side:
      raise ValueError(
          f'video of {height}x{width} pixels: expected multiples of {side}'
      )

  def noise_shapes(self, height: int, width: int) -> list[tuple[int, int]]:
    """Shapes of the decoder's noise for latents of h x w, in its order.

    Each is drawn from N(0, 1) and shared by batch, frames and channels.
    """
    shapes = []
    for block in self.decoder_blocks[::-1]:
      height, width = height * block.stride[1], width * block.stride[1]
      shapes += [(height, width)] * block.noises
    return shapes
