"""The checks of `voiceflow doctor`, one function each."""
