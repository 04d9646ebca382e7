"""The portrait and the speech that are bundled with the tiny checkpoint.

`python -m data.puppets.bundled` writes both anew. The puppet is of the test
range and the sentences are not of the grammar: neither is seen in training.
"""

import os
import pathlib

from absl import app
from absl import flags
import numpy as np
from PIL import Image
import soundfile

from data.puppets import puppets_dataset_builder as puppets
from data.puppets import speech
from data.puppets.renderer import render_portrait

IDENTITY = puppets.TEST_OFFSET + 1028
SECONDS, LEAD_S, PAUSE_S = 10.0, 0.3, 0.35
VOICE = speech.Voice('en', 'en-us+f2', 172, 52, 55)
TEXT = (
    'Hello! I am a puppet, nobody ever filmed me.',
    'A small program paints my face, frame by frame.',
    'Give me a voice, and my lips move with it.',
)

_OUT = flags.DEFINE_string('bundled_out', 'asymtalker_jax/pretrained/tiny',
                           'folder for portrait.png and speech.wav')


def bundled_speech() -> np.ndarray:
  """[160000] float32 speech at 16 kHz: TEXT with pauses.

  Raises:
    ValueError: if the text does not fit into SECONDS.
  """
  engine = speech.synthesizer()
  engine.start()
  parts = [np.zeros(round(LEAD_S * speech.RATE_HZ), np.float32)]
  pause = np.zeros(round(PAUSE_S * speech.RATE_HZ), np.float32)
  for sentence in TEXT:
    parts += [engine.say(sentence, VOICE).waveform, pause]
  wave = np.concatenate(parts)
  total = round(SECONDS * speech.RATE_HZ)
  if len(wave) > total:
    raise ValueError(f'the bundled text takes {len(wave) / speech.RATE_HZ:.2f} '
                     f's; expected at most {SECONDS} s')
  wave = np.pad(wave, (0, total - len(wave)))
  return 0.8 * wave / np.abs(wave).max()


def write_bundled(folder: str | os.PathLike[str]) -> None:
  """Writes portrait.png (512 x 512) and speech.wav (10 s) into a folder."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  image = folder / 'portrait.part.png'
  Image.fromarray(render_portrait(IDENTITY, 512)).save(image, optimize=True)
  os.replace(image, folder / 'portrait.png')
  sound = folder / 'speech.part.wav'
  soundfile.write(sound, bundled_speech(), speech.RATE_HZ, subtype='PCM_16')
  os.replace(sound, folder / 'speech.wav')


def main(argv: list[str]) -> None:
  """Writes the bundled files."""
  del argv
  write_bundled(_OUT.value)


if __name__ == '__main__':
  app.run(main)
