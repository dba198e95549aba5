"""The operators of this provider."""

from airflow_provider.operators.call import VoiceCallOperator
from airflow_provider.operators.campaign import VoiceCampaignOperator

__all__ = ["VoiceCallOperator", "VoiceCampaignOperator"]
