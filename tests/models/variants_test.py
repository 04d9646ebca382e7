"""Named sizes: what they are and that they fit together."""

import ast
import json

import jax
import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.models import dit
from asymtalker_jax.models import variants
from tests import golden_file


def count(tree):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def published(name, unused=()):
  """Parameters of a released checkpoint without those it never reads."""
  path = golden_file.FOLDER / 'keys' / f'{name}.txt'
  lines = path.read_text().splitlines()
  pairs = [line.split('\t') for line in lines if not line.startswith('#')]
  return sum(
      int(np.prod(ast.literal_eval(shape)))
      for key, shape in pairs
      if not key.startswith(unused)
  )


def test_pro_has_the_parameters_of_the_released_networks():
  networks = variants.build(variants.values_of('pro'))
  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  unused = ('text_embedding.', 'audio_emb.')
  assert count(shapes['dit']) == published('flashhead_pro_dit', unused)
  unused = ('masked_spec_embed',)
  assert count(shapes['audio']) == published('wav2vec2_base_960h', unused)
  # The latent statistics are parameters here and code there.
  statistics = 2 * networks.chunk.latent_channels
  wan = published('wan2.1_vae_original')
  assert count(shapes['vae']) == wan + statistics


def test_lite_has_the_parameters_of_the_released_networks():
  networks = variants.build(variants.values_of('lite'))
  shapes = jax.eval_shape(networks.init, jax.random.key(0))
  unused = ('text_embedding.', 'audio_emb.')
  assert count(shapes['dit']) == published('flashhead_lite_dit', unused)
  assert count(shapes['vae']) == published('ltx_0.9.0_vae_original')


def test_lite_has_the_geometry_of_the_method():
  networks = variants.build(variants.values_of('lite'))
  chunk, vae = networks.chunk, networks.vae.config
  assert chunk.latent_shape == (5, 16, 16, 128)
  assert (chunk.continuity_frames, chunk.new_frames) == (9, 24)
  assert chunk.temporal_stride == vae.temporal_stride
  assert chunk.spatial_stride == vae.spatial_stride


def test_pro_has_the_geometry_of_the_method():
  chunk = variants.build(variants.values_of('pro')).chunk
  assert chunk.latent_shape == (9, 64, 64, 16)
  assert (chunk.continuity_frames, chunk.new_frames) == (5, 28)


@pytest.mark.parametrize('name', sorted(variants.VARIANTS))
def test_networks_survive_json(name):
  values = variants.values_of(name)
  again = variants.build(json.loads(json.dumps(values)))
  assert again == variants.build(values)
  assert hash(again) == hash(variants.build(values))


def test_audio_encoders_have_one_interface():
  features = {}
  small = dict(
      width=8, depth=2, heads=2, ffn=16, conv_channels=(4,) * 7,
      position_kernel=4, position_groups=2,
  )
  for audio in ({'kind': 'log_mel'}, {'kind': 'wav2vec2', **small}):
    values = variants.values_of('micro') | {'audio': audio}
    networks = variants.build(values)
    noise = np.random.default_rng(0).normal(size=3 * 640)
    waveform = networks.prepare_waveform(noise)
    assert waveform.shape == noise.shape

    def encode(key, networks=networks, waveform=waveform):
      params = networks.audio.init(key)
      return networks.encode_audio(params, waveform, 3)

    found = jax.eval_shape(encode, jax.random.key(0))
    assert found.dtype == np.float32
    features[audio['kind']] = found.shape
  assert features == {'log_mel': (3, 4, 40), 'wav2vec2': (3, 2, 8)}


@pytest.mark.parametrize('change', [
    dict(latent_channels=9), dict(temporal_stride=8), dict(spatial_stride=16),
    dict(fps=30),
])
def test_a_chunk_that_does_not_fit_vae_or_audio_is_refused(change):
  values = variants.values_of('micro')
  values['chunk'].update(change)
  with pytest.raises(ValueError, match=f'chunk.{next(iter(change))} '):
    variants.build(values)


def test_an_unknown_kind_names_the_choices():
  values = variants.values_of('micro') | {'audio': {'kind': 'whisper'}}
  with pytest.raises(ValueError, match="'log_mel', 'wav2vec2'"):
    variants.build(values)


def small(**dit):
  """Networks with a small transformer, and parameters of it."""
  values = variants.values_of('micro')
  values['dit'].update(width=16, heads=1, ffn=16, audio_hidden=4, **dit)
  networks = variants.build(values)
  # The head of a fresh network is zero: every leaf is drawn.
  shapes = jax.eval_shape(networks.init_dit, jax.random.key(0))
  params = jax.tree.map(lambda s: 0.3 * draw(s.size, *s.shape), shapes)
  return networks, params


def draw(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def noisy(networks):
  """Latents of two clips, the second with two clean slots, and what they see."""
  latents, audio = networks.chunk.latent_shape, networks.audio.config
  x = draw(1, 2, *latents)
  mask = np.zeros((2, latents[0]), np.float32)
  mask[1, :2] = 1
  return x, types.Conditioning(
      reference=draw(2, 2, *latents), continuity=x, mask=mask,
      audio=draw(3, 2, networks.chunk.frames, 5, audio.layers, audio.channels),
  )


def test_per_frame_timestep_is_zero_on_continuity_slots():
  plain, params = small(depth=1)
  per_frame, _ = small(depth=1, per_frame_timestep=True)
  x, conditioning = noisy(plain)
  timestep = np.full(2, 700.0, np.float32)
  chunk, frames = (
      networks.velocity(params, x, timestep, conditioning)
      for networks in (plain, per_frame)
  )
  np.testing.assert_allclose(frames[0], chunk[0], atol=1e-4)
  assert np.abs(frames[1] - chunk[1]).max() > 1e-2
  want = plain.velocity(
      params, x, 700.0 * (1 - conditioning.mask), conditioning
  )
  np.testing.assert_allclose(frames, want, atol=1e-6)


def test_the_weak_network_lacks_the_self_attention_of_the_middle_block():
  networks, params = small(depth=3)
  x, conditioning = noisy(networks)
  timestep = np.full(2, 700.0, np.float32)
  weak = networks.bind_weak_velocity(params)(x, timestep, conditioning)
  gaps = []
  for block in range(3):
    silent = dit.without_self_attention(params, block)
    v = networks.velocity(silent, x, timestep, conditioning)
    gaps.append(float(np.abs(v - weak).max()))
  assert gaps[1] < 1e-6 < 1e-3 < min(gaps[0], gaps[2])
