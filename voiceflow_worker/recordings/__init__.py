"""Recordings that calls play (8x8's playFile): fetched once each, and examined by their headers and frames."""

from voiceflow_worker.recordings.fetch import examine
from voiceflow_worker.recordings.sound import MOST_BYTES, Sound, examined

__all__ = ["MOST_BYTES", "Sound", "examine", "examined"]
