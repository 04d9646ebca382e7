"""From a portrait and speech to a video file."""
