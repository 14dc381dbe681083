"""Micromarket opportunity planner."""
