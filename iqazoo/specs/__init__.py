"""The core's specs, a short entry each. No torch here."""
