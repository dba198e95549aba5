"""Notifications of outcomes to another system: signed (Standard Webhooks), sent over HTTP, and verified."""
