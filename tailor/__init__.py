"""Tailor: recommendations, search, explanations and texts for every person, measured honestly."""
