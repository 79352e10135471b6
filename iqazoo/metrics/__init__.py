"""One file per metric: a pure function, and a thin module around it."""
