"""The triggers of this provider. `VoiceBatchTrigger` needs Airflow 3."""

from airflow_provider.triggers.outcome import VoiceOutcomeTrigger

__all__ = ["VoiceOutcomeTrigger"]

try:
    from airflow_provider.triggers.batch import VoiceBatchTrigger
except ImportError:  # Airflow 2 has no event triggers
    pass
else:
    __all__ += ["VoiceBatchTrigger"]
