"""Scoring folders: pairs of files in, rows out."""
