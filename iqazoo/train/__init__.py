"""Training a metric on people's judgments, with one visible loop: `base` -> `quality` -> `bapps`."""
