"""Who a puppet is: every attribute of a head, drawn from one integer seed.

Lengths are head units: the skull runs from -1 (chin) to +1 (crown). Colours are
RGB tuples in 0..255.
"""

import colorsys
import dataclasses

import numpy as np

Color = tuple[float, float, float]

SKIN_TONES = (
    (255, 224, 200), (250, 210, 182), (241, 194, 160), (229, 178, 138),
    (214, 160, 118), (194, 138, 98), (168, 114, 78), (141, 91, 60),
    (113, 72, 48), (88, 56, 40),
)
HAIR_COLORS = (
    (34, 28, 30), (52, 38, 34), (82, 54, 38), (112, 72, 44), (146, 98, 58),
    (186, 140, 84), (222, 186, 122), (240, 216, 164), (160, 70, 36),
    (196, 92, 48), (150, 148, 150), (206, 204, 204), (92, 66, 120),
    (56, 92, 132), (190, 84, 116),
)
IRIS_COLORS = (
    (70, 44, 28), (104, 66, 36), (134, 96, 52), (84, 112, 62), (58, 118, 96),
    (64, 112, 164), (96, 142, 186), (112, 122, 134), (48, 78, 120),
)
HAIR_STYLES = (
    'bald', 'buzz', 'short', 'side_part', 'quiff', 'receding', 'fringe_bob',
    'long_parted', 'long_fringe', 'bun', 'afro', 'curly', 'beanie', 'wavy',
)
GLASSES = ('none', 'round', 'square', 'wide')
GLASSES_COLORS = ((40, 36, 40), (96, 54, 36), (36, 52, 96), (140, 36, 48),
                  (150, 132, 84))
BEARDS = ('none', 'stubble', 'moustache', 'goatee', 'full')
CLOTHES = ('crew', 'v_neck', 'shirt', 'turtleneck', 'hoodie', 'stripes',
           'blazer')
BACKGROUNDS = ('gradient', 'radial', 'diagonal', 'circles', 'stripes', 'wall')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
  """Attributes of one puppet; the names say what they are.

  Attributes ending in `_color` are RGB. Categories are members of the tuples
  of this module. Everything else is in head units unless said otherwise.
  """

  seed: int
  skin_color: Color
  blush: float
  freckles: int
  head_width: float
  head_depth: float
  crown: float
  jaw: float
  cheeks: float
  hair_style: str
  hair_color: Color
  hair_volume: float
  hair_side: int
  eye_color: Color
  eye_spacing: float
  eye_width: float
  eye_height: float
  eye_tilt: float
  eye_y: float
  iris: float
  lashes: float
  brow_thickness: float
  brow_tilt: float
  brow_arch: float
  brow_y: float
  nose_width: float
  nose_length: float
  nose_lift: float
  ear_size: float
  earrings: bool
  lip_color: Color
  lip_thickness: float
  mouth_half_width: float
  mouth_y: float
  smile: float
  glasses: str
  glasses_color: Color
  beard: str
  clothes: str
  clothes_color: Color
  accent_color: Color
  shoulder_width: float
  neck_width: float
  background: str
  background_color: Color
  background_second: Color
  background_phase: float


def _jitter(rng: np.random.Generator, color: Color, hue: float,
            spread: float) -> Color:
  """`color` with its hue, saturation and value moved a little."""
  h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
  h = (h + rng.uniform(-hue, hue)) % 1
  s = float(np.clip(s * rng.uniform(1 - spread, 1 + spread), 0, 1))
  v = float(np.clip(v * rng.uniform(1 - spread / 2, 1 + spread / 2), 0, 1))
  return tuple(255 * channel for channel in colorsys.hsv_to_rgb(h, s, v))


def _hsv(h: float, s: float, v: float) -> Color:
  return tuple(255 * channel for channel in colorsys.hsv_to_rgb(h % 1, s, v))


def _background(rng: np.random.Generator, avoid: tuple[Color, ...]):
  """(kind, color, second): a quiet background unlike the colours of `avoid`."""
  best, distance = None, -1.0
  for _ in range(6):
    hue = rng.uniform()
    color = _hsv(hue, rng.uniform(0.08, 0.45), rng.uniform(0.5, 0.95))
    nearest = min(np.linalg.norm(np.subtract(color, c)) for c in avoid)
    if nearest > distance:
      best, distance = (hue, color), nearest
  hue, color = best
  second = _jitter(rng, color, 0.06, 0.3)
  second = tuple(c * rng.uniform(0.72, 0.9) for c in second)
  return BACKGROUNDS[rng.integers(len(BACKGROUNDS))], color, second


def sample_identity(seed: int) -> Identity:
  """The puppet of `seed`: the same seed gives the same puppet, always.

  Args:
    seed: non-negative integer.
  """
  rng = np.random.default_rng([0x9A11, seed])
  skin_index = int(rng.integers(len(SKIN_TONES)))
  skin = _jitter(rng, SKIN_TONES[skin_index], 0.012, 0.12)
  style = HAIR_STYLES[rng.integers(len(HAIR_STYLES))]
  dark_skin = skin_index >= 6
  colors = HAIR_COLORS[:4] + HAIR_COLORS[10:] if dark_skin else HAIR_COLORS
  hair = _jitter(rng, colors[rng.integers(len(colors))], 0.015, 0.2)
  feminine = rng.uniform() < 0.5
  if style in ('bun', 'fringe_bob', 'long_fringe', 'long_parted', 'wavy'):
    feminine = rng.uniform() < 0.9
  beard = 'none'
  if not feminine and rng.uniform() < 0.6:
    beard = BEARDS[rng.integers(1, len(BEARDS))]
  glasses = 'none'
  if rng.uniform() < 0.38:
    glasses = GLASSES[rng.integers(1, len(GLASSES))]
  red = 0.52 if dark_skin else 0.38  # lips must stand out on any skin
  lip = tuple((1 - red) * s + red * r for s, r in zip(skin, (200, 72, 82)))
  if feminine and rng.uniform() < 0.5:
    red = _hsv(rng.uniform(0.93, 1.02), rng.uniform(0.55, 0.75), 0.78)
    lip = tuple(0.35 * s + 0.65 * r for s, r in zip(skin, red))
  lip = _jitter(rng, lip, 0.01, 0.12)
  background, color, second = _background(rng, (skin, hair))
  clothes_color = _hsv(rng.uniform(), rng.uniform(0.1, 0.75),
                       rng.uniform(0.25, 0.9))
  return Identity(
      seed=int(seed), skin_color=skin, hair_style=style, hair_color=hair,
      lip_color=lip, glasses=glasses, beard=beard, clothes_color=clothes_color,
      background=background, background_color=color, background_second=second,
      **_head(rng, feminine), **_eyes(rng, feminine), **_face(rng, feminine),
      **_clothes(rng, feminine))


def _head(rng: np.random.Generator, feminine: bool) -> dict[str, object]:
  return dict(
      blush=rng.uniform(0.2, 1) * (1 if feminine else 0.6),
      freckles=int(rng.integers(14, 40)) if rng.uniform() < 0.18 else 0,
      head_width=rng.uniform(0.71, 0.83), head_depth=rng.uniform(0.82, 0.92),
      crown=rng.uniform(2.05, 2.6),
      jaw=rng.uniform(0.0, 0.65 if feminine else 1.0),
      cheeks=rng.uniform(0.0, 0.09), hair_volume=rng.uniform(0.8, 1.25),
      hair_side=int(rng.choice([-1, 1])))


def _eyes(rng: np.random.Generator, feminine: bool) -> dict[str, object]:
  return dict(
      eye_color=_jitter(rng, IRIS_COLORS[rng.integers(len(IRIS_COLORS))],
                        0.02, 0.2),
      eye_spacing=rng.uniform(0.285, 0.345), eye_width=rng.uniform(0.15, 0.195),
      eye_height=rng.uniform(0.085, 0.135), eye_tilt=rng.uniform(-0.14, 0.16),
      eye_y=rng.uniform(-0.02, 0.08), iris=rng.uniform(0.075, 0.095),
      lashes=rng.uniform(0.6, 1.0) if feminine else rng.uniform(0.1, 0.4),
      brow_thickness=rng.uniform(0.022, 0.045) if feminine
      else rng.uniform(0.035, 0.068),
      brow_tilt=rng.uniform(-0.32, 0.10), brow_arch=rng.uniform(0.03, 0.09),
      brow_y=rng.uniform(0.25, 0.32))


def _face(rng: np.random.Generator, feminine: bool) -> dict[str, object]:
  return dict(
      nose_width=rng.uniform(0.10, 0.18), nose_length=rng.uniform(0.26, 0.36),
      nose_lift=rng.uniform(0.12, 0.24), ear_size=rng.uniform(0.85, 1.25),
      earrings=bool(feminine and rng.uniform() < 0.45),
      lip_thickness=rng.uniform(0.055, 0.095) if feminine
      else rng.uniform(0.04, 0.075),
      mouth_half_width=rng.uniform(0.28, 0.36),
      mouth_y=rng.uniform(-0.56, -0.50), smile=rng.uniform(0.0, 0.06))


def _clothes(rng: np.random.Generator, feminine: bool) -> dict[str, object]:
  return dict(
      glasses_color=_jitter(rng, GLASSES_COLORS[rng.integers(5)], 0.02, 0.2),
      clothes=CLOTHES[rng.integers(len(CLOTHES))],
      accent_color=_hsv(rng.uniform(), rng.uniform(0.1, 0.6),
                        rng.uniform(0.6, 0.98)),
      shoulder_width=rng.uniform(1.2, 1.42) if feminine
      else rng.uniform(1.36, 1.62),
      neck_width=rng.uniform(0.30, 0.36) if feminine
      else rng.uniform(0.36, 0.46),
      background_phase=rng.uniform())
