"""Features of long files: constant memory, near those of the whole."""

import numpy as np
import pytest

from asymtalker_jax.convert import rules
from asymtalker_jax.models import audio_windows
from asymtalker_jax.models import log_mel
from asymtalker_jax.models import wav2vec2
from tests.models import wav2vec2_test

ENCODER = wav2vec2.Wav2Vec2Encoder(wav2vec2_test.SMALL)


def pieces(encoder, params, waveform, frames):
  track = audio_windows.Track(
      encoder, params, waveform, frames, window_frames=10, context_frames=6
  )
  return [track.piece(index) for index in range(track.pieces)]


def test_windows_without_attention_equal_the_whole_file():
  # What is left sees 4 frames at most, less than the context.
  params = rules.flatten(wav2vec2_test.small_params())
  for path, value in params.items():
    if '/value/' in path:
      params[path] = np.zeros_like(value)
  params = rules.unflatten(params)
  waveform = wav2vec2_test.sound(37)
  found = pieces(ENCODER, params, waveform, 37)
  assert [len(piece) for piece in found] == [10, 10, 10, 7]
  whole = wav2vec2_test.encode(wav2vec2_test.SMALL, params, waveform, 37)
  np.testing.assert_allclose(np.concatenate(found), whole, atol=2e-5)


@pytest.mark.parametrize('norm', ['group', 'layer'])
def test_windows_stay_near_the_whole_file(norm):
  # Windows of 0.9 s; for the default ones see the function's docstring.
  _, config, params = wav2vec2_test.reference(norm)
  waveform = wav2vec2_test.sound(37)
  whole = np.asarray(wav2vec2_test.encode(config, params, waveform, 37))
  found = np.concatenate(
      pieces(wav2vec2.Wav2Vec2Encoder(config), params, waveform, 37)
  )
  assert np.sqrt(np.mean((found - whole) ** 2) / np.mean(whole**2)) < 0.3


def test_a_file_of_one_window_is_encoded_whole():
  params = wav2vec2_test.small_params()
  waveform = wav2vec2_test.sound(22, extra=500)
  (found,) = pieces(ENCODER, params, waveform, 22)
  whole = wav2vec2_test.encode(wav2vec2_test.SMALL, params, waveform, 22)
  np.testing.assert_array_equal(found, whole)


def test_log_mel_windows_equal_the_whole_file():
  encoder = log_mel.LogMelEncoder(log_mel.LogMelConfig())
  waveform = wav2vec2_test.sound(37)
  found = pieces(encoder, {}, waveform, 37)
  np.testing.assert_allclose(
      np.concatenate(found), encoder.encode({}, waveform, 37), atol=1e-4
  )
