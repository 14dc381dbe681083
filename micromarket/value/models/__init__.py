"""Estimators of one population: how often customers buy, how long they stay, what they spend. No markets in here."""
