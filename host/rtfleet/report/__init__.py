"""Judged values as people and machines read them. Nothing is computed here; foreign strings are escaped here."""
