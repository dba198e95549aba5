"""Recordings that calls play (8x8's playFile): fetched once each, and decoded as a phone would hear them."""

from voiceflow_worker.recordings.fetch import listen
from voiceflow_worker.recordings.sound import MOST_BYTES, Sound, heard

__all__ = ["MOST_BYTES", "Sound", "heard", "listen"]
