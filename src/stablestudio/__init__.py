"""Sell AI image and video generation by the call, or buy it: one package, two sides."""

__version__ = "0.1.0"
