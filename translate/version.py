"""The version, and the name under which this package is distributed."""

__version__ = "0.1.0"
DISTRIBUTION = "translate-img2img"
