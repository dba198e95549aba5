"""The sensors of this provider."""

from airflow_provider.sensors.approval import IvrApprovalSensor
from airflow_provider.sensors.outcome import VoiceOutcomeSensor

__all__ = ["IvrApprovalSensor", "VoiceOutcomeSensor"]
