"""`python -m voiceflow_worker` is `voiceflow`."""

from __future__ import annotations

from voiceflow_worker.cli import main

if __name__ == "__main__":
    main()
