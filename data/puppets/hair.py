"""Hair of a puppet: which styles there are and how they follow the head.

Every style is a cap that starts at a hairline, and optionally curtains beside
the face, a mass behind it, and a bun. All live on shells around the skull, so
that they shift against the face as the head turns.
"""

import dataclasses

import numpy as np

from data.puppets import head


@dataclasses.dataclass(frozen=True)
class Style:
  """Shape of a hair style; lifts relative to the skull, angles in degrees."""

  side: float
  top: float
  hairline: tuple[tuple[float, float], ...]
  curtain_end: float = 0.0  # y of the tips; 0 means no curtains
  curtain_lon: float = 68.0
  back_end: float = -0.45
  flare: float = 0.0
  bumps: float = 0.0
  strands: float = 1.0
  bun: bool = False
  covers_ears: bool = False


_EARS = ((-112, -0.42), (-100, 0.05), (-84, 0.2), (-74, -0.06), (-64, 0.12))
_SIDES = ((64, 0.12), (74, -0.06), (84, 0.2), (100, 0.05), (112, -0.42))
_COVERED = ((-112, -0.5), (-80, -0.2), (-66, 0.1))
_COVERED_RIGHT = ((66, 0.1), (80, -0.2), (112, -0.5))


def _line(*front, covered=False):
  left, right = (_COVERED, _COVERED_RIGHT) if covered else (_EARS, _SIDES)
  return left + tuple(front) + right


STYLES = {
    'bald': None,
    'buzz': Style(0.015, 0.02, _line((-50, 0.5), (-25, 0.58), (0, 0.6),
                                     (25, 0.58), (50, 0.5)), strands=0.5),
    'short': Style(0.07, 0.13, _line((-50, 0.44), (-30, 0.5), (-12, 0.44),
                                     (5, 0.5), (22, 0.43), (40, 0.48),
                                     (52, 0.4))),
    'side_part': Style(0.07, 0.15, _line((-52, 0.34), (-34, 0.42), (0, 0.5),
                                         (26, 0.66), (36, 0.68), (52, 0.44))),
    'quiff': Style(0.05, 0.27, _line((-52, 0.42), (-34, 0.56), (-15, 0.62),
                                     (0, 0.64), (15, 0.62), (34, 0.56),
                                     (52, 0.42)), bumps=0.02),
    'receding': Style(0.04, 0.04, _line((-50, 0.62), (-36, 0.82), (-14, 0.68),
                                        (0, 0.64), (14, 0.68), (36, 0.82),
                                        (50, 0.62)), strands=0.8),
    'fringe_bob': Style(0.14, 0.13, _line((-56, 0.28), (-35, 0.3), (0, 0.32),
                                          (35, 0.3), (56, 0.28), covered=True),
                        covers_ears=True,
                        curtain_end=-0.78, curtain_lon=64, back_end=-0.75,
                        flare=0.10),
    'long_parted': Style(0.10, 0.12, _line((-56, 0.3), (-36, 0.58),
                                           (-12, 0.74), (0, 0.78), (12, 0.74),
                                           (36, 0.58), (56, 0.3),
                                           covered=True),
                         covers_ears=True,
                         curtain_end=-1.75, curtain_lon=66, back_end=-1.8,
                         flare=0.05),
    'long_fringe': Style(0.11, 0.12, _line((-58, 0.2), (-40, 0.32),
                                           (-15, 0.42), (20, 0.62), (30, 0.66),
                                           (44, 0.5), (58, 0.22),
                                           covered=True),
                         covers_ears=True,
                         curtain_end=-1.5, curtain_lon=66, back_end=-1.65,
                         flare=0.08),
    'bun': Style(0.04, 0.08, _line((-50, 0.52), (-25, 0.62), (0, 0.66),
                                   (25, 0.62), (50, 0.52)), bun=True),
    'afro': Style(0.34, 0.40, _line((-54, 0.4), (-30, 0.52), (0, 0.56),
                                    (30, 0.52), (54, 0.4), covered=True),
                  covers_ears=True, back_end=-0.35, bumps=0.03, strands=1.2),
    'curly': Style(0.20, 0.22, _line((-56, 0.26), (-38, 0.42), (-20, 0.36),
                                     (0, 0.44), (20, 0.37), (38, 0.42),
                                     (56, 0.26), covered=True),
                   covers_ears=True,
                   curtain_end=-0.85, curtain_lon=67, back_end=-0.9,
                   bumps=0.05, strands=1.4, flare=0.06),
    'beanie': Style(0.07, 0.17, ((-112, 0.2), (-60, 0.3), (0, 0.4), (60, 0.3),
                                 (112, 0.2)), strands=0.7, back_end=-0.3),
    'wavy': Style(0.15, 0.14, _line((-58, 0.26), (-40, 0.5), (-22, 0.68),
                                    (-10, 0.72), (14, 0.6), (36, 0.46),
                                    (58, 0.24), covered=True),
                  covers_ears=True,
                  curtain_end=-1.35, curtain_lon=65, back_end=-1.45,
                  bumps=0.045, flare=0.10),
}


class Hair:
  """Polygons of one puppet's hair for any pose, in head coordinates."""

  def __init__(self, identity, skull: head.Shell):
    self.style = STYLES[identity.hair_style]
    self.identity, self.skull = identity, skull
    if self.style is None:
      return
    volume = identity.hair_volume
    self.shell = head.hair_shell(identity, self.style.side * volume,
                                 self.style.top * volume, self.style.flare)
    lon, y = np.array(self.style.hairline).T
    if identity.hair_side < 0:
      lon, y = -lon[::-1], y[::-1]
    self._lon, self._y = np.radians(lon), y
    self._phase = 6.28 * identity.background_phase

  def hairline(self, lon: np.ndarray) -> np.ndarray:
    """Heights of the hairline at longitudes in radians."""
    # Averaging three shifted copies rounds the corners of the polyline.
    width = np.radians(5)
    return sum(np.interp(lon + k * width, self._lon, self._y)
               for k in (-1, 0, 1)) / 3

  def _ruffle(self, points: np.ndarray) -> np.ndarray:
    """Silhouette points [N, 3] with the bumps of curls."""
    if not self.style.bumps:
      return points
    angle = np.arctan2(points[:, 0], points[:, 1] + 0.1)
    along = np.where(points[:, 1] > -0.2, 9 * angle,
                     9 * angle + 7 * points[:, 1])
    grow = 1 + self.style.bumps * np.abs(np.sin(along + self._phase))
    return points * np.stack([grow, np.where(points[:, 1] > 0, grow, 1),
                              grow], -1)

  def cap(self, pose) -> np.ndarray:
    """[N, 3] polygon from the hairline over the crown."""
    rim = float(self.shell.rim(np.array([0.3]), pose)[0])
    lon = np.linspace(rim - np.pi, rim, 64)
    front = self.skull.point(lon, self.hairline(lon), 0.025)
    right_y, left_y = self.hairline(np.array([rim, rim - np.pi]))
    top = self.shell.y[-1]
    t = np.sin(np.linspace(0, np.pi / 2, 26))
    right = self.shell.silhouette(right_y + (top - right_y) * t, pose, 1)
    left = self.shell.silhouette(left_y + (top - left_y) * t[::-1], pose, -1)
    return np.concatenate([front, self._ruffle(right), self._ruffle(left)])

  def curtain(self, pose, side: int) -> np.ndarray | None:
    """[N, 3] polygon of the hair beside the face, or None if it is hidden."""
    style = self.style
    if not style.curtain_end:
      return None
    y = np.linspace(0.42, style.curtain_end, 22)
    rim = self.shell.rim(y, pose)
    rim = rim if side > 0 else rim - np.pi
    inner = side * np.radians(style.curtain_lon + 6 * np.sin(
        2.2 * y + self._phase) * (0.3 + style.bumps * 20))
    # Hair wraps around the far side instead of thinning to a sliver.
    inner = side * np.minimum(side * inner, side * rim - np.radians(14))
    edge = self.shell.point(inner, y)
    # Over the brow the edge lies on the forehead, below it hangs free.
    near = head.smoothstep((y - 0.0) / 0.4)[:, None]
    edge = near * self.skull.point(inner, y, 0.03) + (1 - near) * edge
    outer = self._ruffle(self.shell.silhouette(y, pose, side))
    tip = 0.16 * np.sin(np.linspace(0, np.pi, 8))[1:-1, None]
    blend = np.linspace(0, 1, 8)[1:-1, None]
    bottom = edge[-1] + blend * (outer[-1] - edge[-1])
    bottom = bottom - tip * np.array([0, 1, 0])
    return np.concatenate([edge, bottom, outer[::-1]])

  def back(self, pose) -> np.ndarray:
    """[N, 3] polygon of the hair behind head and neck."""
    y = np.linspace(0.55, self.style.back_end, 30)
    right = self._ruffle(self.shell.silhouette(y, pose, 1))
    left = self._ruffle(self.shell.silhouette(y, pose, -1))
    if self.style.back_end > -0.5:
      shrink = 1 - 0.35 * head.smoothstep((0.2 - y) / 0.6)[:, None]
      right, left = (p * np.concatenate([shrink, shrink**0, shrink], 1)
                     for p in (right, left))
    middle = np.linspace(1, 0, 12)[1:-1, None]
    bottom = left[-1] + middle * (right[-1] - left[-1])
    bottom[:, 1] -= 0.14 * np.sin(np.linspace(0, np.pi, 12))[1:-1]
    points = np.concatenate([right, bottom, left[::-1]])
    points[:, 2] -= 0.08
    return points

  def bun(self) -> np.ndarray:
    """[N, 3] outline of a bun on top of the back of the head."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return np.stack([0.30 * np.cos(t), 1.12 + 0.25 * np.sin(t),
                     np.full_like(t, -0.35)], -1)
