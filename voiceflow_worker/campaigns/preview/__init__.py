"""The preview of a campaign: its calls, texts, course and cost, before anything is sent."""
