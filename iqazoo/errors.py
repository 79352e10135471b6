"""Every error that iqazoo raises on purpose. Each message says what was expected, what came, and what to do."""


class IqazooError(Exception):
    """The base of all errors below; catch it to catch them all."""


class UnknownMetric(IqazooError, LookupError):
    """No installed distribution declares a metric of that name."""


class AmbiguousMetric(IqazooError, LookupError):
    """Two or more plugins declare the name, and neither is the core."""


class PluginError(IqazooError):
    """A plugin's declaration or code is broken; the message names the distribution and the cause."""


class WeightsError(IqazooError):
    """A weight file cannot be had, or is not the one that was promised."""


class InputError(IqazooError, ValueError):
    """An image, a path or an option is not what the metric takes."""


class CheckpointError(IqazooError):
    """A checkpoint cannot be read, or belongs to another network."""


class TrainingError(IqazooError):
    """Training cannot go on; the message says what was kept for a look at it."""
