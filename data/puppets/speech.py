"""Speech with phoneme times from espeak-ng, through ctypes.

The wheel `espeakng-loader` (extra [puppets]) carries the library and its data.
"""

import _ctypes
import ctypes
import dataclasses
import functools

import numpy as np
import soxr

from data.puppets import sentences

RATE_HZ = 16000
_SYNCHRONOUS, _PHONEMES_IN_IPA = 2, 3
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_END_OF_LIST, _PHONEME_EVENT = 0, 7
_UTF8 = 1

VOICES = {'en': ('en-us', 'en', 'en-gb-scotland', 'en-029'), 'de': ('de',),
          'fr': ('fr',), 'es': ('es', 'es-419'), 'it': ('it',)}
LANGUAGE_WEIGHTS = {'en': 0.56, 'de': 0.14, 'fr': 0.1, 'es': 0.1, 'it': 0.1}
VARIANTS = ('', '+m1', '+m2', '+m3', '+m4', '+m7', '+m8', '+f1', '+f2', '+f3',
            '+f4', '+f5', '+Annie', '+Andrea', '+linda', '+steph', '+anika',
            '+adam', '+david', '+edward', '+john', '+max', '+paul', '+rob',
            '+zac', '+Michael')


class _Event(ctypes.Structure):
  _fields_ = [('type', ctypes.c_int), ('unique', ctypes.c_uint),
              ('text_position', ctypes.c_int), ('length', ctypes.c_int),
              ('audio_ms', ctypes.c_int), ('sample', ctypes.c_int),
              ('user', ctypes.c_void_p), ('name', ctypes.c_char * 8)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short),
                             ctypes.c_int, ctypes.POINTER(_Event))


@dataclasses.dataclass(frozen=True)
class Utterance:
  """Speech with its phonemes.

  Attributes:
    waveform: [S] float32 in [-1, 1] at 16 kHz.
    phonemes: (start in seconds, IPA symbol) in order; '' is a pause.
  """

  waveform: np.ndarray
  phonemes: tuple[tuple[float, str], ...]


@dataclasses.dataclass(frozen=True)
class Voice:
  """How a puppet speaks; units are those of espeak-ng."""

  language: str
  name: str
  rate: int
  pitch: int
  range: int


class Synthesizer:
  """espeak-ng in this process; the library keeps global state, so use one."""

  def __init__(self):
    """Loads the library.

    Raises:
      ValueError: if the extra [puppets] is not installed.
    """
    try:
      import espeakng_loader  # pylint: disable=import-outside-toplevel
    except ImportError as error:
      raise ValueError(
          'puppets need the speech synthesiser espeak-ng, which is not '
          "installed; expected: pip install -e '.[puppets]' (or pip "
          'install espeakng-loader)') from error
    self._path = espeakng_loader.get_library_path()
    self._data = espeakng_loader.get_data_path().encode()
    self._audio, self._events = [], []
    self._callback = _CALLBACK(self._receive)
    self._library = None

  def _receive(self, samples, count, events) -> int:
    if samples and count > 0:
      self._audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
    i = 0
    while events[i].type != _END_OF_LIST:
      if events[i].type == _PHONEME_EVENT:
        name = events[i].name.decode('utf-8', 'ignore')
        self._events.append((events[i].audio_ms / 1000, name))
      i += 1
    return 0

  def start(self) -> None:
    """(Re)loads the library, so that no state is left of earlier speech.

    The library keeps oscillator phases in static variables that it never
    resets; only unloading it makes speech a function of the text alone.
    """
    if self._library is not None:
      self._library.espeak_Terminate()
      _ctypes.dlclose(self._library._handle)  # pylint: disable=protected-access
    self._library = ctypes.CDLL(self._path)
    ctypes.CDLL(None).srand(1)  # breath noise comes from the C library
    rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, self._data,
                                           _PHONEMES_IN_IPA)
    if rate <= 0:
      raise OSError(f'espeak-ng could not start from {self._data.decode()}')
    self._rate = rate
    self._library.espeak_SetSynthCallback(self._callback)

  def say(self, text: str, voice: Voice) -> Utterance:
    """Speaks a text.

    Args:
      text: a sentence.
      voice: who says it and how.

    Raises:
      ValueError: if espeak-ng does not have the voice.
    """
    self._audio.clear()
    self._events.clear()
    library = self._library
    if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
      raise ValueError(f'espeak-ng has no voice {voice.name!r}; expected one '
                       f'of {VOICES} with a variant of {VARIANTS}')
    for parameter, value in ((_RATE, voice.rate), (_VOLUME, 90),
                             (_PITCH, voice.pitch), (_RANGE, voice.range),
                             (_WORD_GAP, 0)):
      library.espeak_SetParameter(parameter, value, 0)
    data = text.encode('utf-8') + b'\0'
    library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
    audio = np.concatenate(self._audio or [np.zeros(1, np.int16)])
    wave = soxr.resample(audio.astype(np.float32) / 32768, self._rate, RATE_HZ)
    return Utterance(wave.astype(np.float32), tuple(self._events))


@functools.cache
def synthesizer() -> Synthesizer:
  """The one synthesiser of this process."""
  return Synthesizer()


def sample_voice(rng: np.random.Generator) -> Voice:
  """A random voice: language, variant, rate, pitch and range."""
  languages = tuple(LANGUAGE_WEIGHTS)
  language = languages[rng.choice(len(languages),
                                  p=tuple(LANGUAGE_WEIGHTS.values()))]
  base = VOICES[language][rng.integers(len(VOICES[language]))]
  variant = VARIANTS[rng.integers(len(VARIANTS))]
  return Voice(language, base + variant, int(rng.integers(125, 186)),
               int(rng.integers(25, 76)), int(rng.integers(35, 76)))


def speak(rng: np.random.Generator, seconds: float, split: str,
          voice: Voice | None = None) -> Utterance:
  """Sentences with pauses that fill exactly `seconds`.

  Args:
    rng: source of randomness; the result depends on nothing else.
    seconds: length; the last sentence is cut there.
    split: 'train' or 'test', see sentences.py.
    voice: who speaks, None for a random voice.
  """
  voice = voice or sample_voice(rng)
  engine = synthesizer()
  engine.start()
  total = round(seconds * RATE_HZ)
  wave = np.zeros(total, np.float32)
  phonemes: list[tuple[float, str]] = [(0.0, '')]
  at = round(rng.uniform(0.08, 0.6) * RATE_HZ)
  while at < total:
    text = sentences.sentence(rng, voice.language, split)
    part = engine.say(text, voice)
    count = min(len(part.waveform), total - at)
    wave[at:at + count] = part.waveform[:count]
    start = at / RATE_HZ
    phonemes += [(start + t, name) for t, name in part.phonemes]
    at += len(part.waveform)
    phonemes.append((at / RATE_HZ, ''))
    pause = rng.uniform(0.1, 0.5) if rng.uniform() < 0.8 else rng.uniform(0.5,
                                                                          1.2)
    at += round(pause * RATE_HZ)
  peak = np.abs(wave).max() + 1e-6
  wave *= rng.uniform(0.35, 0.9) / peak
  return Utterance(wave, tuple(p for p in phonemes if p[0] < seconds))
