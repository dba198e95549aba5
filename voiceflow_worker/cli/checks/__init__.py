"""What `voiceflow doctor` looks at: each check a function of its own, which finds something and says what to do."""
