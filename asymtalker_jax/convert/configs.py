"""Our configurations for the published ones of DiT and Wan VAE.

Those of the LTX VAE and of wav2vec2 are next to their tables.
"""

from collections.abc import Mapping
from typing import Any

from asymtalker_jax.models import dit
from asymtalker_jax.models import wan_vae


def _require(what: str, published: Mapping[str, Any], *keys: str) -> list[Any]:
  missing = [key for key in keys if key not in published]
  if missing:
    raise ValueError(f'{what} config: no {", ".join(missing)}')
  return [published[key] for key in keys]


def _fixed(what: str, published: Mapping[str, Any], **fixed: Any) -> None:
  for key, value in fixed.items():
    if published.get(key, value) != value:
      raise ValueError(
          f'{what} config: {key} is {published[key]!r}; expected {value!r}'
      )


def wan_dit_diffusers(published: Mapping[str, Any]) -> dit.DiTConfig:
  """For diffusers' `WanTransformer3DModel`, text-to-video."""
  what = 'Wan DiT'
  heads, size, depth, ffn, channels, patch, frequencies, text = _require(
      what, published, 'num_attention_heads', 'attention_head_dim',
      'num_layers', 'ffn_dim', 'in_channels', 'patch_size', 'freq_dim',
      'text_dim',
  )  # pyformat: disable
  _fixed(
      what, published, out_channels=channels, cross_attn_norm=True,
      qk_norm='rms_norm_across_heads', added_kv_proj_dim=None, image_dim=None,
  )  # pyformat: disable
  return dit.DiTConfig(
      width=heads * size,
      depth=depth,
      heads=heads,
      ffn=ffn,
      latent_channels=channels,
      patch=patch,
      frequency_dim=frequencies,
      eps=published.get('eps', 1e-6),
      cross_attention='text',
      text_dim=text,
  )


def flashhead_dit(
    published: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    audio: tuple[int, int] = (12, 768),
) -> dit.DiTConfig:
  """For FlashHead's `WanModelAudioProject`.

  Args:
    published: its config.
    shapes: checkpoint key -> shape; the config is silent on the sizes of the
      audio projection.
    audio: (layers, channels) of the audio features.
  """
  what = 'FlashHead DiT'
  width, depth, heads, ffn, channels, inputs, patch, stride = _require(
      what, published, 'dim', 'num_layers', 'num_heads', 'ffn_dim', 'out_dim',
      'in_dim', 'patch_size', 'vae_stride',
  )  # pyformat: disable
  if inputs != 2 * channels:
    raise ValueError(
        f'{what} config: in_dim is {inputs}; expected twice out_dim, '
        f'{2 * channels}'
    )
  hidden, tokens = _require(
      what, shapes, 'audio_proj.proj1.weight', 'audio_proj.proj3.weight'
  )
  return dit.DiTConfig(
      width=width,
      depth=depth,
      heads=heads,
      ffn=ffn,
      latent_channels=channels,
      patch=patch,
      frequency_dim=published.get('freq_dim', 256),
      temporal_stride=stride[0],
      audio_layers=audio[0],
      audio_channels=audio[1],
      audio_hidden=hidden[0],
      audio_tokens=tokens[0] // width,
      eps=published.get('eps', 1e-6),
  )


def wan_vae_sizes(published: Mapping[str, Any]) -> wan_vae.WanVaeConfig:
  """For the Wan 2.1 VAE, in the words of the original or of diffusers."""
  what = 'Wan VAE'
  _fixed(what, published, patch_size=None, is_residual=False)
  if published.get('attn_scales'):
    raise ValueError(f'{what} config: attn_scales are not supported')
  base = 'base_dim' if 'base_dim' in published else 'dim'
  width, multipliers, time, blocks, channels = _require(
      what, published, base, 'dim_mult', 'temperal_downsample',
      'num_res_blocks', 'z_dim',
  )  # pyformat: disable
  return wan_vae.WanVaeConfig(
      base_channels=width,
      multipliers=multipliers,
      strides=[(2, 2 if t else 1) for t in time],
      res_blocks=blocks,
      latent_channels=channels,
  )


def wan_vae_diffusers(
    config: wan_vae.WanVaeConfig, latent_mean: Any, latent_std: Any
) -> dict[str, Any]:
  """config.json of diffusers' `AutoencoderKLWan`.

  Raises:
    ValueError: sizes that the network of Wan 2.1 does not have.
  """
  if config.patch_size != 1 or any(s != 2 for s, _ in config.strides):
    raise ValueError(
        f'Wan VAE with patch_size {config.patch_size} and strides '
        f'{config.strides}: the published network has patch_size 1 and spatial '
        'stride 2 throughout'
    )
  return {
      '_class_name': 'AutoencoderKLWan',
      '_diffusers_version': '0.33.0.dev0',
      'attn_scales': [],
      'base_dim': config.base_channels,
      'dim_mult': list(config.multipliers),
      'dropout': 0.0,
      'latents_mean': [float(x) for x in latent_mean],
      'latents_std': [float(x) for x in latent_std],
      'num_res_blocks': config.res_blocks,
      'temperal_downsample': [t == 2 for _, t in config.strides],
      'z_dim': config.latent_channels,
  }


def wan_dit_original(published: Mapping[str, Any]) -> dit.DiTConfig:
  """For Wan 2.1 text-to-video in its original words."""
  what = 'Wan DiT'
  width, depth, heads, ffn, channels = _require(
      what, published, 'dim', 'num_layers', 'num_heads', 'ffn_dim', 'in_dim'
  )
  _fixed(
      what, published, out_dim=channels, model_type='t2v', cross_attn_norm=True,
      qk_norm=True, has_image_input=False,
  )  # pyformat: disable
  return dit.DiTConfig(
      width=width,
      depth=depth,
      heads=heads,
      ffn=ffn,
      latent_channels=channels,
      patch=published.get('patch_size', (1, 2, 2)),
      frequency_dim=published.get('freq_dim', 256),
      eps=published.get('eps', 1e-6),
      cross_attention='text',
      text_dim=published.get('text_dim', 4096),
  )
