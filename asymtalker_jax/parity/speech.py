"""The outputs of golden files of wav2vec2, with and without video time."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wav2vec2 as layouts
from asymtalker_jax.inputs import audio
from asymtalker_jax.models import wav2vec2 as networks
from asymtalker_jax.parity import golden as golden_lib


@functools.partial(jax.jit, static_argnums=(0, 3))
def _stages(config, params, waveform, frames) -> dict[str, jax.Array]:
  """What the golden files record on the way to the output."""
  call = functools.partial(networks.Wav2Vec2(config).apply, {'params': params})
  plain = call(jnp.stack([waveform, waveform[::-1]]))
  features = call(waveform[None], method='features')
  spread = networks.interpolate(features, frames)
  states = call(waveform[None], frames)
  raw = functools.partial(call, method='states', final_norm=False)
  return dict(
      conv_features=features,
      interpolated_features=spread,
      hidden_states=jnp.stack(states),
      last_hidden_state=states[-1],
      last_layer_before_final_norm=raw(spread)[-1],
      audio_emb=networks.encode(config, params, waveform, frames),
      plain_hidden_states=jnp.stack(plain)[:, :1],
      plain_last_hidden_state=plain[-1][:1],
      plain_batch2_flipped=plain[-1][1:],
      plain_last_layer_before_final_norm=raw(features)[-1],
  )


def wav2vec2(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of FlashHead's and of transformers' `Wav2Vec2Model`."""
  config = golden.at_precision(layouts.config_of(golden.config))
  weights = golden.weights()
  params = rules.convert(
      weights, layouts.table_of(weights), layouts.targets(config)
  )
  waveform = networks.prepare_waveform(golden['in.waveform'])
  frames = len(waveform) // networks.SAMPLES_PER_FRAME
  found = dict(_stages(config, params, waveform, frames))
  found['input_values_sub'] = waveform[None]
  features = np.asarray(found['audio_emb'])
  if 'out.audio_embedding_once_ends' in golden.tensors:
    whole = audio.window_features(features, 0, frames)
    kept = golden['out.audio_embedding_once_ends'].shape[1] // 2
    found['audio_embedding_once_ends'] = np.concatenate(
        [whole[:kept], whole[-kept:]]
    )[None]
  if 'window_range' in golden.meta:
    start, end = golden.meta['window_range']
    part = audio.window_features(features[:end], start, end - start)
    found['audio_embedding_range'] = part[None]
  return found
