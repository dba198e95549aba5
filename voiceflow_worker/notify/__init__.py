"""Notifications of outcomes to your own system: signed (Standard Webhooks), sent over HTTP, and verified."""
