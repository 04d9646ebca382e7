"""How a clip is stored: H.264 in MP4 and FLAC, as bytes of one example."""

import io

import av
import numpy as np
import soundfile

FPS, RATE_HZ = 25, 16000
# 4:4:4 keeps red lips on dark skin. Without `cpu-independent` x264 approximates
# its estimate of how frames depend on each other, and on a processor with
# AVX-512 up to 6 % of 5,000 encodings of the same frames differed.
_X264 = {'crf': '12', 'preset': 'veryfast',
         'x264-params': 'cpu-independent=1'}


def encode_video(frames: np.ndarray, tune: str) -> bytes:
  """MP4 bytes of frames [N, H, W, 3] uint8 RGB at 25 fps.

  Args:
    frames: of one clip.
    tune: what x264 is told of them: 'animation' for drawings, 'film'.
  """
  buffer = io.BytesIO()
  with av.open(buffer, 'w', format='mp4') as container:
    stream = container.add_stream('libx264', rate=FPS)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt, stream.options = 'yuv444p', _X264 | {'tune': tune}
    stream.codec_context.thread_count = 1
    for frame in frames:
      picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
      for packet in stream.encode(picture):
        container.mux(packet)
    for packet in stream.encode():
      container.mux(packet)
  return buffer.getvalue()


def encode_audio(waveform: np.ndarray) -> bytes:
  """16-bit FLAC bytes of a waveform [S] float32 in [-1, 1] at 16 kHz."""
  buffer = io.BytesIO()
  soundfile.write(buffer, waveform, RATE_HZ, format='FLAC', subtype='PCM_16')
  return buffer.getvalue()
