"""The version, and the name of the distribution."""

__version__ = "0.1.0"
DISTRIBUTION = "translate-img2img"
