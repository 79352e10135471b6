"""Networks that several metrics share."""
