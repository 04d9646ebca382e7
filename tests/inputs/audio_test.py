"""Audio files in, 16 kHz mono out, and one line for what is not audio."""

import fractions
import logging

import av
import numpy as np
import pytest
import soundfile

from asymtalker_jax.inputs import audio
from asymtalker_jax.inputs import promised_size
from tests import shared_media


def tone(rate, seconds=1.0, channels=1, hz=440.0):
  wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)
  return np.repeat(wave[:, None], channels, 1).astype(np.float32)


def write(folder, samples, rate, subtype='PCM_16', name='x.wav'):
  path = folder / name
  kind = name.rpartition('.')[2].upper()
  soundfile.write(path, samples, rate, subtype=subtype, format=kind)
  return path


@pytest.mark.parametrize('rate', [8000, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize('channels', [1, 2])
def test_any_rate_becomes_the_same_tone_at_16_khz(tmp_path, rate, channels):
  recording = audio.read_recording(
      write(tmp_path, tone(rate, 1.0, channels), rate)
  )
  assert recording.waveform.dtype == np.float32
  assert recording.waveform.shape == (16000,)
  assert recording.seconds == 1.0
  error = recording.waveform - tone(16000)[:, 0]
  assert np.abs(error[500:-500]).max() < 2e-3


@pytest.mark.parametrize('subtype', ['PCM_24', 'PCM_32', 'FLOAT', 'PCM_U8'])
def test_sample_formats(tmp_path, subtype):
  waveform = audio.load_waveform(
      write(tmp_path, tone(16000), 16000, subtype)
  )
  assert np.abs(waveform - tone(16000)[:, 0]).max() < 0.01


def test_stereo_is_averaged(tmp_path):
  samples = tone(16000, channels=2)
  samples[:, 1] *= -1
  assert np.abs(
      audio.load_waveform(write(tmp_path, samples, 16000))
  ).max() < 1e-4


def test_blocks_are_resampled_without_seams(tmp_path):
  seconds = 6.0  # More than one block at 44.1 kHz.
  waveform = audio.load_waveform(
      write(tmp_path, tone(44100, seconds), 44100)
  )
  expected = tone(16000, seconds)[:, 0]
  assert np.abs(waveform - expected)[500:-500].max() < 1e-3


def test_exact_seconds_at_rates_that_do_not_divide(tmp_path):
  path = write(tmp_path, np.full((44100 + 883, 1), 0.1, np.float32), 44100)
  recording = audio.read_recording(path)
  assert recording.seconds == (44100 + 883) / 44100


@pytest.mark.parametrize(
    'samples, word',
    [
        (np.zeros((0, 1)), 'at least 40 ms'),
        (tone(16000, 0.03), '30 ms'),
        (np.where(np.arange(16000) == 9000, np.nan, 0.1)[:, None], 'NaN'),
        (np.where(np.arange(16000) == 9000, np.inf, 0.1)[:, None], 'infinite'),
        (np.where(np.arange(16000) == 9000, -3e38, 0.1)[:, None], 'huge'),
    ],
)
def test_unusable_samples(tmp_path, samples, word):
  path = write(tmp_path, samples.astype(np.float32), 16000, 'FLOAT')
  with pytest.raises(ValueError, match=word) as error:
    audio.load_waveform(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['x.mkv', 'x.mp4', 'x.ts'])
def test_a_gap_in_the_time_stamps_is_silence(tmp_path, name):
  path, rate = tmp_path / name, 48000
  with av.open(str(path), 'w') as container:
    codec = 'pcm_s16le' if name == 'x.mkv' else 'aac'
    stream = container.add_stream(codec, rate=rate, layout='mono')
    sound = stream.format.name
    for start in (0, 1024, rate):  # The third comes after a second.
      samples = tone(rate)[:1024].T
      frame = av.AudioFrame.from_ndarray(
          np.ascontiguousarray(samples)
          if sound == 'fltp' else (32767 * samples).astype(np.int16),
          sound, 'mono',
      )
      frame.sample_rate, frame.pts = rate, start
      frame.time_base = fractions.Fraction(1, rate)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  waveform = audio.load_waveform(path)
  power = np.square(waveform[: len(waveform) // 160 * 160]).reshape(-1, 160)
  loud = np.flatnonzero(power.mean(1) > 0.01) / 100  # s
  # The transport stream does not say that AAC is late by 1024 samples.
  assert loud.min() == pytest.approx(0.0, abs=0.022)
  assert not ((loud > 0.07) & (loud < 0.99)).any()
  assert loud.max() == pytest.approx(1.01, abs=0.025)


def test_a_container_that_does_not_say_its_length(tmp_path):
  path = tmp_path / 'x.mkv'
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('pcm_s16le', rate=16000, layout='mono')
    samples = (32767 * tone(16000)).astype(np.int16)
    for start in range(0, 16000, 1600):
      frame = av.AudioFrame.from_ndarray(
          np.ascontiguousarray(samples[start : start + 1600].T), 's16', 'mono'
      )
      frame.sample_rate, frame.pts = 16000, start
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  waveform = audio.load_waveform(path)
  np.testing.assert_allclose(waveform, tone(16000)[:, 0], atol=1e-4)


def test_a_rate_that_carries_no_speech(tmp_path):
  path = write(tmp_path, tone(100), 100)
  with pytest.raises(ValueError, match='100 Hz; expected at least 1000'):
    audio.load_waveform(path)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    audio.load_waveform(tmp_path / 'nothing.wav')


@pytest.mark.parametrize(
    'content, word',
    [(b'', 'empty'), (b'hello, world ' * 100, 'not a readable media file')],
)
def test_files_that_are_not_audio(tmp_path, content, word):
  path = tmp_path / 'x.wav'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=word):
    audio.load_waveform(path)


def test_samples_without_a_header(tmp_path):
  (tmp_path / 'x.raw').write_bytes(bytes(64000))
  with pytest.raises(ValueError, match='x.raw: no audio in this file'):
    audio.load_waveform(tmp_path / 'x.raw')


def test_folder(tmp_path):
  with pytest.raises(ValueError, match='not a file'):
    audio.load_waveform(tmp_path)


@pytest.mark.parametrize('name, subtype', [
    ('x.wav', 'PCM_16'), ('x.flac', 'PCM_16'), ('x.mp3', 'MPEG_LAYER_III'),
    ('x.ogg', 'VORBIS'), ('x.aiff', 'PCM_16'), ('x.au', 'PCM_16'),
    ('x.caf', 'PCM_16'), ('x.w64', 'PCM_16'), ('x.rf64', 'PCM_16'),
])
def test_truncated_file(tmp_path, name, subtype):
  path = write(tmp_path, tone(16000, 3.0), 16000, subtype, name)
  assert audio.read_recording(path).seconds == pytest.approx(3.0, abs=0.06)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match='truncated'):
    audio.load_waveform(path)


def test_wav_files_that_leave_their_length_open_are_read(tmp_path):
  path = write(tmp_path, tone(16000, 2.0), 16000)
  data = bytearray(path.read_bytes())
  at = data.index(b'data') + 4
  for size in (0, 2**32 - 1):
    data[at : at + 4] = size.to_bytes(4, 'little')
    path.write_bytes(data)
    assert promised_size.of(path) is None
  assert audio.read_recording(path).seconds == 2.0


@pytest.mark.parametrize('name', ['x.mkv', 'x.webm'])
def test_a_truncated_container_without_a_length_of_its_streams(tmp_path, name):
  path, rate = tmp_path / name, 48000
  with av.open(str(path), 'w') as container:
    codec = 'libopus' if name == 'x.webm' else 'aac'
    stream = container.add_stream(codec, rate=rate, layout='mono')
    for start in range(0, 4 * rate, 960):
      frame = av.AudioFrame.from_ndarray(
          tone(rate)[:960].T.copy(), 'fltp', 'mono'
      )
      frame.sample_rate, frame.pts = rate, start
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  assert audio.read_recording(path).seconds == pytest.approx(4.0, abs=0.05)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match='truncated after .* of 4.0'):
    audio.read_recording(path)


@pytest.mark.parametrize(
    'level, word', [(0.0, 'silence'), (1e-4, 'very quiet')]
)
def test_silence_works_with_a_warning(tmp_path, caplog, level, word):
  caplog.set_level(logging.WARNING, 'absl')
  path = write(tmp_path, level * tone(16000), 16000, 'FLOAT')
  assert len(audio.load_waveform(path)) == 16000
  assert word in caplog.text


def test_telephone_quality_works_with_a_warning(tmp_path, caplog):
  caplog.set_level(logging.WARNING, 'absl')
  audio.load_waveform(write(tmp_path, tone(8000), 8000))
  assert '8000 Hz' in caplog.text


def test_window_holds_the_neighbours_and_clamps():
  features = np.arange(6.0)[:, None, None]
  window = audio.window_features(features, -1, 4)
  assert window.shape == (4, 5, 1, 1)
  np.testing.assert_array_equal(
      window[..., 0, 0],
      [[0, 0, 0, 0, 1], [0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 4]],
  )
  assert audio.window_features(features, 5, 1)[0, :, 0, 0].tolist() == [
      3, 4, 5, 5, 5
  ]


@pytest.mark.parametrize(
    'name, seconds',
    [
        ('audio/orig_44k1_stereo_hallo3_0018.wav', 12.28336),
        ('raw/made_short_0p6s.mp4', 0.6),
        ('raw/made_audio_only.mp4', 5.01501),
    ],
)
def test_real_files(name, seconds):
  recording = audio.read_recording(shared_media.path(name))
  assert recording.seconds == pytest.approx(seconds, abs=1e-4)
  assert len(recording.waveform) == round(16000 * recording.seconds)


@pytest.mark.parametrize(
    'name, word',
    [
        ('raw/made_truncated_no_moov.mp4', 'not a readable media file'),
        ('raw/made_truncated_faststart.mp4', 'truncated'),
        ('raw/made_zero_bytes.mp4', 'empty'),
        ('raw/liveportrait_d13_orig_no_audio_720x1280_30fps.mp4', 'no audio'),
        ('portraits/photo_man_scared.png', 'no audio'),
    ],
)
def test_real_files_without_usable_sound(name, word):
  with pytest.raises(ValueError, match=word):
    audio.load_waveform(shared_media.path(name))


@pytest.mark.parametrize('rate', [8000, 16000, 44100])
def test_a_stream_gives_the_samples_of_the_recording(tmp_path, rate):
  path = write(tmp_path, tone(rate, 5.03), rate)
  blocks = list(audio.stream_waveform(path))
  recording = audio.read_recording(path)
  np.testing.assert_array_equal(np.concatenate(blocks), recording.waveform)
  assert audio.measure_seconds(path) == recording.seconds
  assert max(map(len, blocks)) <= 16000 * 9  # 2^16 samples at 8 kHz


def test_a_stream_of_a_damaged_file_raises_where_it_breaks(tmp_path):
  path = write(tmp_path, tone(16000, 30.0), 16000)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  blocks = audio.stream_waveform(path)
  assert len(next(blocks)) > 0
  with pytest.raises(ValueError, match='truncated'):
    list(blocks)
  with pytest.raises(ValueError, match='truncated'):
    audio.measure_seconds(path)
