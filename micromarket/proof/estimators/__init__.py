"""Estimators of what a test brought; each by itself, on arrays."""
